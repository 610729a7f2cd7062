"""Guidance: step away from what a reference would have drawn (2207.12598; interval: 2404.07724)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.sigmas import per_sample

RAMP = math.log(2)  # in ln sigma, over which guidance comes up inside each end of its interval
Interval = tuple[float, float]
Pair = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (x, sigma) -> denoised with the caption, and the reference's


def guide(denoise: Denoise, reference: Denoise, scale: float | Tensor, interval: Interval | None = None) -> Denoise:
    """reference + scale * (denoised - reference), for noise levels within `interval` (both ends in; None: all).

    Inside each end of the interval the scale comes up from 1 over a doubling of sigma: what is denoised must not jump
    from one noise level to the next, since every sampler goes by its being smooth.

    scale: one number, or [B]; 1 is no guidance, 0 the reference. Samples with scale 1 or outside the interval are
    exactly what `denoise` says, and where that is true of all of them `reference` is not called. The usual reference is
    the same network with the empty caption; a worse network works too (2406.02507).
    """
    return guide_pair(denoise, lambda x, sigma: (denoise(x, sigma), reference(x, sigma)), scale, interval)


def window(sigma: Tensor, interval: Interval) -> Tensor:
    """How much of the guidance acts at noise levels sigma: 0 at the ends of an interval and outside, 1 in its middle.

    In between a smooth step over ln 2 in ln sigma, or over half of an interval that is narrower than two of these.
    """
    low, high = (math.log(end) if end > 0 else -math.inf for end in interval)
    ramp = max(1e-9, min(RAMP, (high - low) / 2))
    place = torch.minimum(sigma.log() - low, high - sigma.log()).div(ramp).clamp(0, 1)
    return place.square() * (3 - 2 * place)


def guide_pair(denoise: Denoise, pair: Pair, scale: float | Tensor, interval: Interval | None = None) -> Denoise:
    """`guide` where one call of a network gives both answers; outside the interval only `denoise` is called."""

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        scales = torch.as_tensor(scale, dtype=sigma.dtype, device=sigma.device).expand(len(x))
        active = scales != 1
        if interval is not None:
            active = active & (interval[0] <= sigma) & (sigma <= interval[1])
            scales = 1 + (scales - 1) * window(sigma, interval)
        if not bool(active.any()):
            return denoise(x, sigma)
        denoised, base = pair(x, sigma)
        moved = base + per_sample(scales, denoised) * (denoised - base)
        return torch.where(per_sample(active, denoised).bool(), moved, denoised)

    return guided
