"""Distillation: what a student must say so that one straight step lands where the teacher's flow ends.

The noise levels of the student's few steps part the flow into segments. Within the segment that ends at `end`,

    straight step      x_end = denoised + (end / sigma) (x - denoised)
    target             the `denoised` for which x_end lies on the flow of the teacher through x

So the student that is the true flow map has no error, and `euler` on those levels is its sampler (multistep
consistency, 2403.06807; with a single segment, a consistency model, 2303.01469). What is learned is where the teacher's
own sampler arrives, as in 2202.00512, not what the student itself says a little nearer: no target moves while the
student learns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.sigmas import per_sample

_NO_NOISE = 1e-30  # stands for the level 0 in logarithms
_NO_STEP = 1e-6  # of ln sigma: shorter ones lead nowhere


def ends_of(sigma: Tensor, levels: Tensor) -> Tensor:
    """Where the step from each sigma [B] ends: the next of `levels` [N + 1] (strictly decreasing, ending in 0) below.

    A sigma at a level begins that level's step; one above all levels goes to the second.
    """
    rising = levels.flip(0).to(sigma)
    place = torch.searchsorted(rising, sigma, right=False) - 1
    return rising[place.clamp(min=0, max=len(rising) - 2)]


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

    Follows the flow of `denoise` in `steps` steps of DPM-Solver++(2M) (2211.01095 algorithm 2), each sample on levels
    of its own, spaced as those of `sigmas.logistic_sigmas`; below `sigma_min` nothing is asked, and the last step to 0
    is of first order, as in the samplers. The target is a weighted mean of the answers, so it is exact to rounding
    however short the way is.
    """
    said, share = torch.zeros_like(x), torch.zeros_like(sigma)  # what x_end holds of answers, and of which weight
    first, last = _place(sigma, center, spread), _place(end, center, spread)
    lowest = torch.minimum(_place(torch.full_like(sigma, sigma_min), center, spread), first)
    level, before, h_before = sigma, x, sigma
    for step in range(1, steps + 1):
        place = torch.maximum(first + (last - first) * (step / steps), lowest)
        after = end if step == steps else torch.minimum(_level(place, center, spread), level)
        denoised = denoise(x, level)
        h = torch.log(level / after.clamp(min=_NO_NOISE))
        answer = denoised
        if step > 1:
            bold = torch.where(after > 0, h / h_before.clamp(min=_NO_STEP) / 2, 0.0)
            answer = denoised + per_sample(bold, x) * (denoised - before)
        keep, moved = after / level, (level - after) / level
        x = per_sample(keep, x) * x + per_sample(moved, x) * answer
        said = per_sample(keep, x) * said + per_sample(moved, x) * answer
        share = keep * share + moved
        level, before, h_before = after, denoised, h
    return said / per_sample(share, x)


def _place(sigma: Tensor, center: float, spread: float) -> Tensor:
    """The logistic distribution function of ln sigma: 0 at 0."""
    power = (sigma / center) ** (1 / spread)
    return power / (1 + power)


def _level(place: Tensor, center: float, spread: float) -> Tensor:
    """Inverse of `_place`."""
    return center * (place / (1 - place)) ** spread
