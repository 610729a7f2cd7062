"""Evaluation: noise error, caption use, memorization, caption accuracy and image quality of a model, and a report."""
