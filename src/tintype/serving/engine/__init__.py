"""The engine: one thread that owns the models and batches their network calls."""
