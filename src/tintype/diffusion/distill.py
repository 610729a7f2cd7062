"""Distillation: the target with which one straight step of the student lands where the teacher's flow ends.

The noise levels of the student's few steps divide the flow into segments. Within the segment that ends at `end`,

    straight step      x_end = denoised + (end / sigma) (x - denoised)
    target             the `denoised` for which x_end lies on the flow of the teacher through x

A student that equals the true flow map has no error, and `euler` on those levels is its sampler (multistep consistency
models, Heek et al. 2024, arXiv 2403.06807; with a single segment a consistency model, Song et al. 2023, arXiv
2303.01469). The student learns where the teacher's own sampler arrives, as in progressive distillation (Salimans and Ho
2022, arXiv 2202.00512), not its own prediction at a nearby level: no target moves while the student learns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.sigmas import per_sample

_NO_NOISE = 1e-30  # stands for the level 0 in logarithms
_NO_STEP = 1e-6  # the shortest step in ln sigma


def ends_of(sigma: Tensor, levels: Tensor) -> Tensor:
    """The end of the step from each sigma [B]: the next lower of `levels` [K + 1] (strictly decreasing, ending in 0).

    A sigma at a level starts that level's step; one above all levels goes to the second.
    """
    rising = levels.flip(0).to(sigma)
    index = torch.searchsorted(rising, sigma, right=False) - 1
    return rising[index.clamp(min=0, max=len(rising) - 2)]


def flow_target(
    denoise: Denoise,
    x: Tensor,
    sigma: Tensor,
    end: Tensor,
    steps: int,
    *,
    sigma_min: float,
    center: float = 0.7,
    spread: float = 1.1,
) -> Tensor:
    """The target [B, ...] for x [B, ...] at `sigma` [B], whose step ends at `end` [B] below it, 0 for a picture.

    Follows the flow of `denoise` in `steps` steps of DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2),
    each sample on its own noise levels, spaced as in `sigmas.logistic_sigmas`. The network is not called below
    `sigma_min`, and the last step to 0 is of first order, as in the samplers. The target is a weighted mean of the
    predictions, so it is exact to rounding however short the segment is.
    """
    weighted_sum, weight = torch.zeros_like(x), torch.zeros_like(sigma)  # of the predictions in x_end
    first, last = _quantile(sigma, center, spread), _quantile(end, center, spread)
    lowest = torch.minimum(_quantile(torch.full_like(sigma, sigma_min), center, spread), first)
    level, previous, h_previous = sigma, x, sigma
    for step in range(1, steps + 1):
        quantile = torch.maximum(first + (last - first) * (step / steps), lowest)
        next_level = end if step == steps else torch.minimum(_level(quantile, center, spread), level)
        denoised = denoise(x, level)
        h = torch.log(level / next_level.clamp(min=_NO_NOISE))
        prediction = denoised
        if step > 1:
            ratio = torch.where(next_level > 0, h / h_previous.clamp(min=_NO_STEP) / 2, 0.0)
            prediction = denoised + per_sample(ratio, x) * (denoised - previous)
        keep, gain = next_level / level, (level - next_level) / level
        x = per_sample(keep, x) * x + per_sample(gain, x) * prediction
        weighted_sum = per_sample(keep, x) * weighted_sum + per_sample(gain, x) * prediction
        weight = keep * weight + gain
        level, previous, h_previous = next_level, denoised, h
    return weighted_sum / per_sample(weight, x)


def _quantile(sigma: Tensor, center: float, spread: float) -> Tensor:
    """The logistic distribution function of ln sigma: 0 at 0."""
    power = (sigma / center) ** (1 / spread)
    return power / (1 + power)


def _level(quantile: Tensor, center: float, spread: float) -> Tensor:
    """Inverse of `_quantile`."""
    return center * (quantile / (1 - quantile)) ** spread
