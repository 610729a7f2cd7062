"""Training: from captioned pictures to a model folder."""
