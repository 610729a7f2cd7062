"""Samples at half the size: what a picture shows is learned there at a third of the cost, before its detail.

A share of the samples is reduced until the learning rate falls; from then on all are of full size. Sizes are mixed
within each step, not one after the other, so that the network can draw full pictures at any time of the run, and the
end of a run may move. Training at growing sizes: Karras et al. 2018, arXiv 1710.10196.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tintype.config import TrainConfig
from tintype.diffusion.noise import Purpose, uniform

HALF = 0.5
SIGMA = HALF**0.5  # times the noise level of full size: see `config.noise_at`


def half_size_at(train: TrainConfig, positions: Tensor) -> Tensor:
    """Draw which positions [B] of a run show their picture at half the size: bool [B]."""
    if not train.half_size:
        return torch.zeros(len(positions), dtype=torch.bool)
    drawn = uniform(train.seed, Purpose.HALF_SIZE, positions, 1)[:, 0] < train.half_size
    return drawn & (positions < train.decay_start)


def halved(pictures: Tensor, multiple: int) -> Tensor:
    """Pictures uint8 [B, 3, H, W] at half the size, each side rounded to a multiple of `multiple`, at least one."""
    height, width = (max(1, int(side * HALF / multiple + 0.5)) * multiple for side in pictures.shape[-2:])
    reduced = F.interpolate(pictures.float(), size=(height, width), mode="bilinear", antialias=True)
    return reduced.round().clamp(0, 255).to(torch.uint8)
