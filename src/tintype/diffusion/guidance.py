"""Guidance away from a reference prediction (Ho and Salimans 2022, arXiv 2207.12598), on an interval of noise levels
(Kynkäänniemi et al. 2024, arXiv 2404.07724).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.sigmas import per_sample

RAMP = math.log(2)  # width in ln sigma over which guidance fades in at each end of its interval
Interval = tuple[float, float]
Pair = Callable[
    [Tensor, Tensor], tuple[Tensor, Tensor]
]  # (x, sigma) -> predictions with the caption and of the reference


def guide(denoise: Denoise, reference: Denoise, scale: float | Tensor, interval: Interval | None = None) -> Denoise:
    """reference + scale * (denoised - reference), for noise levels within `interval` (both ends included; None: all).

    Inside each end of the interval the scale rises from 1 over a doubling of sigma: every sampler relies on predictions
    that change smoothly with the noise level.

    scale: one number, or [B]; 1 is no guidance, 0 the reference. Samples with scale 1 or outside the interval get
    exactly the prediction of `denoise`, and `reference` is not called where that holds for all of them. The usual
    reference is the same network with the empty caption; a weaker network works too (Karras et al. 2024, arXiv
    2406.02507).
    """
    return guide_pair(denoise, lambda x, sigma: (denoise(x, sigma), reference(x, sigma)), scale, interval)


def window(sigma: Tensor, interval: Interval) -> Tensor:
    """The share of guidance that acts at noise levels sigma: 0 outside an interval and at its ends, 1 in its middle.

    Between them a smooth step over ln 2 in ln sigma, or over half of an interval that is narrower than two such steps.
    """
    low, high = (math.log(end) if end > 0 else -math.inf for end in interval)
    ramp = max(1e-9, min(RAMP, (high - low) / 2))
    position = torch.minimum(sigma.log() - low, high - sigma.log()).div(ramp).clamp(0, 1)
    return position.square() * (3 - 2 * position)


def guide_pair(denoise: Denoise, pair: Pair, scale: float | Tensor, interval: Interval | None = None) -> Denoise:
    """`guide` with both predictions from one call of the network; outside the interval only `denoise` is called."""

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        scales = torch.as_tensor(scale, dtype=sigma.dtype, device=sigma.device).expand(len(x))
        active = scales != 1
        if interval is not None:
            active = active & (interval[0] <= sigma) & (sigma <= interval[1])
            scales = 1 + (scales - 1) * window(sigma, interval)
        if not bool(active.any()):
            return denoise(x, sigma)
        denoised, base = pair(x, sigma)
        guided_prediction = base + per_sample(scales, denoised) * (denoised - base)
        return torch.where(per_sample(active, denoised).bool(), guided_prediction, denoised)

    return guided
