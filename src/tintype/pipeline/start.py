"""Where the pictures of a request start: noise levels, starting noise, an init image with noise on it or led back."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import torch
from torch import Tensor

from tintype.config import NoiseConfig
from tintype.diffusion.inversion import invert
from tintype.diffusion.noise import Purpose, add_noise, normal, slerp
from tintype.diffusion.samplers import SAMPLERS, Coroutine, Denoise, Query, Randn, Step, num_evaluations
from tintype.diffusion.sigmas import GRIDS
from tintype.pipeline.request import Request


def sigmas_of(request: Request, level: NoiseConfig) -> Tensor:
    """The noise levels of a request, float64: of its grid, those up to its strength, and 0."""
    grid = GRIDS[request.grid]
    sigmas = grid(request.steps, level.sigma_min, level.sigma_max, request.center, request.spread)
    if request.strength < 1:
        sigma = level.sigma_min * (level.sigma_max / level.sigma_min) ** request.strength
        num = int((sigmas[:-1] <= sigma * (1 + 1e-9)).sum())
        num = max(1 if request.invert is None else 2, num)
        sigmas = grid(num, level.sigma_min, sigma, request.center, request.spread)
    return sigmas


def noise_of(request: Request, channels: int) -> Tensor:
    """The starting noise of each picture, [B, C, H, W] float32 on the CPU."""
    return mixed_noise(request, own_noise(request, channels))


def own_noise(request: Request, channels: int) -> Tensor:
    """Likewise, with no other mixed in. Drawn on the CPU for every device, as not every device has 64-bit integers."""
    shape = (channels, request.height, request.width)
    return normal(torch.tensor(request.seeds), Purpose.START, torch.tensor(request.indices), shape)


def mixed_noise(request: Request, noise: Tensor) -> Tensor:
    """Noise [B, C, H, W] on the CPU with its share of the request's other noise in it."""
    if not request.seeds_to or not any(request.shares):
        return noise
    seeds, indices = torch.tensor(request.seeds_to), torch.tensor(request.indices_to)
    other = normal(seeds, Purpose.START, indices, tuple(noise.shape[1:]))
    return slerp(noise, other, torch.tensor(request.shares))


def start_of(noise: Tensor, sigma: float, x0: Tensor | None) -> Tensor:
    """Static at noise level sigma, or x0 [1, C, H, W] with as much noise on it."""
    if x0 is None:
        return sigma * noise
    return add_noise(x0.expand_as(noise), noise, noise.new_full((len(noise),), sigma))


class Again:
    """The way of a picture back to the noise it comes from, and forth again: two samplers in turn, as one coroutine.

    A picture without any noise is nothing that the network ever saw: known static is put on it first. What the network
    cannot tell of the picture behind that is put back in the end.

    Args:
        x0: the picture [1, C, H, W].
        painted: how much of each pixel is made anew, [1, 1, H, W], or 1 for all.

    `known` is the request as it is on the way back, under the caption the picture is said to have; `forth` says which
    way is being gone, and `index` which of `total` steps is asked about: one per noise level, however often it is.
    """

    def __init__(self, request: Request, level: NoiseConfig, x0: Tensor, painted: Tensor, randn: Randn) -> None:
        self._request, self._x0, self._painted, self._randn = request, x0, painted, randn
        self._sampler, self._sigmas = SAMPLERS[request.sampler], sigmas_of(request, level)
        self.known = replace(request, captions=(request.invert or "",) * len(request), captions_to=(), mask=None)
        self.total = len(self._sigmas) - 1 + num_evaluations(self._sampler, self._sigmas)
        self.index = 0
        self.forth = False

    def coroutine(self) -> Coroutine:
        """Asks as `known`, then as the request itself; returns the picture made anew."""
        levels = self._sigmas[:-1]
        static = own_noise(self._request, self._x0.shape[1]).to(self._x0.device)
        found, seen = yield from self._back(invert(start_of(static, levels[-1].item(), self._x0), levels))
        noise = mixed_noise(self._request, (found / levels[0]).cpu()).to(found.device)
        self.forth = True
        made = yield from self._counted(self._sampler(levels[0] * noise, self._sigmas, self._randn))
        return made + (self._x0 - seen) * self._painted

    def _back(self, way: Coroutine) -> Generator[Query, Tensor, tuple[Tensor, Tensor]]:
        """The noise that `euler` makes the picture of, and what is denoised at the lowest noise level."""
        query, seen = next(way), None
        while True:
            denoised = yield query
            seen = denoised if seen is None else seen
            before = query.sigma
            try:
                query = way.send(denoised)
            except StopIteration as end:
                return end.value, seen
            self.index += not torch.equal(query.sigma, before)

    def _counted(self, way: Coroutine) -> Coroutine:
        query = next(way)
        while True:
            self.index += 1
            denoised = yield query
            try:
                query = way.send(denoised)
            except StopIteration as end:
                made: Tensor = end.value
                return made


def steps_again(again: Again, back: Denoise, forth: Denoise) -> Generator[Step, None, Tensor]:
    """Go the whole way: a Step for each noise level on the way back, then one for each evaluation."""
    coroutine = again.coroutine()
    query = next(coroutine)
    while True:
        index = again.index
        denoised = (forth if again.forth else back)(query.x, query.sigma).to(query.x.dtype)
        step = Step(index, again.total, float(query.sigma[0]), query.x, denoised)
        try:
            query = coroutine.send(denoised)
        except StopIteration as end:
            yield step
            made: Tensor = end.value
            return made
        if again.index != index:
            yield step
