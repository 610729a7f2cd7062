"""Metrics that training and evaluation share: confidence intervals, noise error, memorization."""
