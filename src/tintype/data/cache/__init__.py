"""The training cache: pixels and text embeddings, built once, memory-mapped; or streamed."""
