"""Captioned pictures become batches: sources -> check -> pack -> order."""
