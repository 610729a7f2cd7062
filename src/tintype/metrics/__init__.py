"""Estimates with intervals, noise errors and memorization, measured the same way everywhere."""
