"""Networks: they know their conditioning, never sigma, loss or sampler."""
