"""Run folders and checkpoints: write, verify, read, average."""
