"""Noise errors of known denoisers on small pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from tintype.data.thread_pool import finished
from tintype.diffusion.exact import finite_errors
from tintype.metrics.noise_error import CaptionedDenoiser, evaluation_noise, noise_errors

SHAPE = (3, 4, 4)
SIGMAS = torch.tensor([0.05, 0.2, 0.5, 1.0, 3.0, 20.0])


def measured(given: CaptionedDenoiser, x0: Tensor, seed: int = 0, first: int = 0) -> Tensor:
    noise = evaluation_noise(seed, torch.arange(first, first + len(x0)), SHAPE)
    return finished(noise_errors(given, x0, [""] * len(x0), noise, SIGMAS, batch=100))


def blocks_of(points: Tensor, size: int):  # type: ignore[no-untyped-def]
    return lambda: iter(points.split(size))


def ideal(points: Tensor, chosen: slice, size: int = 64) -> Tensor:
    noise = evaluation_noise(0, torch.arange(len(points))[chosen], SHAPE)
    return finished(finite_errors(blocks_of(points, size), points[chosen], noise, SIGMAS, [torch.zeros(len(points))]))[
        0
    ]
