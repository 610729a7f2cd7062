"""Tensor math of diffusion: noise levels, draws, prediction types, loss, samplers, guidance. Stands on nothing else."""
