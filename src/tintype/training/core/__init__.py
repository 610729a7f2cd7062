"""The training loop: batches, objective, optimizers, averages."""
