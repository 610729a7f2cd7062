"""Is a model any good, and can it be trusted? Noise error, caption use, memory, caption accuracy, quality; a report."""
