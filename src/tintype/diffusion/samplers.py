"""Samplers by name, and their driver.

A sampler is a coroutine: it yields queries, receives predictions, and returns pictures. It knows no model, caption,
guidance or device. The schedule is any strictly decreasing sequence of noise levels; a step to sigma 0 returns
`denoised` itself. Samplers are in ode.py and sde.py, their common parts in solver.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from tintype.diffusion import ode, sde
from tintype.diffusion.parameterization import Denoise as Denoise
from tintype.diffusion.solver import Coroutine as Coroutine
from tintype.diffusion.solver import Query as Query
from tintype.diffusion.solver import Randn as Randn
from tintype.diffusion.solver import Sampler as Sampler
from tintype.diffusion.solver import levels_of

SAMPLERS: dict[str, Sampler] = {**ode.SAMPLERS, **sde.SAMPLERS}


class Step(NamedTuple):
    """One evaluation of the network while a picture is made, as `Pipeline.stream` yields it."""

    index: int  # type: ignore[assignment]  # from 0; hides tuple.index, which nobody needs here
    total: int  # evaluations in all
    sigma: float  # noise level of x
    x: Tensor  # [B, C, H, W] noisy pictures
    denoised: Tensor  # [B, C, H, W] the predicted clean pictures

    @property
    def predicted_noise(self) -> Tensor:
        """The noise that the network identifies in x, [B, C, H, W]."""
        return (self.x - self.denoised) / self.sigma


def num_evaluations(sampler: Sampler, sigmas: Tensor) -> int:
    """The number of network evaluations of a sampler on these noise levels, counted by a run without pictures."""
    return _num_evaluations(sampler, levels_of(sigmas))


@lru_cache(maxsize=256)
def _num_evaluations(sampler: Sampler, levels: tuple[float, ...]) -> int:
    nothing = torch.empty(0, 1, 1, 1)
    coroutine = sampler(nothing, torch.tensor(levels, dtype=torch.float64), lambda num_drawn: nothing)
    next(coroutine)
    num = 1
    try:
        while True:
            coroutine.send(nothing)
            num += 1
    except StopIteration:
        return num


def steps_of(
    sampler: Sampler, denoise: Denoise, x: Tensor, sigmas: Tensor, randn: Randn | None = None
) -> Generator[Step, None, Tensor]:
    """Run a sampler from x [B, C, H, W] at sigmas[0]: one Step per evaluation, then the picture as return value.

    Raises ValueError at once if the schedule is not strictly decreasing or the sampler needs a randn and has none.
    Closing the generator cancels.
    """
    total = num_evaluations(sampler, sigmas)
    coroutine = sampler(x, sigmas, randn)
    return drive(coroutine, next(coroutine), denoise, total)


def drive(
    coroutine: Coroutine, query: Query, denoise: Denoise, total: int, index: Callable[[], int] | None = None
) -> Generator[Step, None, Tensor]:
    """Answer the queries of a coroutine, from its first one on, until it returns; returns what it returns.

    Yields a Step per query. index: the step that the open query belongs to, where several queries make one step; then
    only the last query of each step is yielded.
    """
    num_answered = 0
    while True:
        position = num_answered if index is None else index()
        denoised = denoise(query.x, query.sigma).to(query.x.dtype)
        level = float(query.sigma[0]) if len(query.sigma) else math.nan
        step = Step(position, total, level, query.x, denoised)
        try:
            query = coroutine.send(denoised)
        except StopIteration as finished:
            yield step
            picture: Tensor = finished.value
            return picture
        num_answered += 1
        if index is None or index() != position:
            yield step


def sample(
    denoise: Denoise, x: Tensor, sigmas: Tensor, sampler: str | Sampler = "euler", randn: Randn | None = None
) -> Tensor:
    """Run a sampler from noise to pictures, with any function as the denoiser.

        x0 = torch.zeros(1, 3, 32, 32)
        x = 80 * torch.randn(4, 3, 32, 32)
        sigmas = tintype.SCHEDULES["karras"](16, 0.02, 80.0, 0.7, 1.1)
        pictures = tintype.sample(lambda x, sigma: x0.expand_as(x), x, sigmas, sampler="unipc")

    denoise: (x [B, C, H, W], sigma [B]) -> the predicted clean pictures [B, C, H, W]. x: [B, C, H, W] noise of
    level sigmas[0]. sigmas: [K + 1] strictly decreasing, usually to 0. sampler: a name in `SAMPLERS`, or a coroutine
    function as `Options` describes it. randn: n -> the n-th draw of standard normal noise shaped like x, for samplers
    that add noise. Returns x at the last level [B, C, H, W].

    Raises ValueError for an unknown sampler, for levels that do not decrease, or a missing randn.
    """
    if isinstance(sampler, str) and sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, not {sampler!r}")
    return finish(steps_of(SAMPLERS[sampler] if isinstance(sampler, str) else sampler, denoise, x, sigmas, randn))


def finish(steps: Generator[Step, None, Tensor]) -> Tensor:
    """Run steps to their end; returns what they return, [B, C, H, W]."""
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            x: Tensor = finished.value
            return x
