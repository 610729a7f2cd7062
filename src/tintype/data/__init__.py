"""Captioned pictures become batches: sources -> check -> cache -> order."""
