"""Picture files -> pixels at a training shape, with hashes and sizes."""
