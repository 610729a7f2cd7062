"""Where the pictures of a request start: noise levels, starting noise, an init image with noise on it."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from tintype.config import NoiseConfig
from tintype.diffusion.inversion import invert
from tintype.diffusion.noise import Purpose, add_noise, normal, slerp
from tintype.diffusion.samplers import Denoise, Step, steps_of
from tintype.diffusion.sigmas import GRIDS
from tintype.request import Request


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


def led_back(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Generator[Step, None, tuple[Tensor, Tensor]]:
    """Lead x [B, C, H, W] back from the last of the noise levels to the first: a Step for each.

    Returns what `euler` makes x of again, and what is denoised at the last noise level.
    """
    steps = steps_of(invert, denoise, x, sigmas)
    first = newest = next(steps)
    index = 0
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            found: Tensor = end.value
            yield newest._replace(index=index)
            return found, first.denoised
        if step.sigma != newest.sigma:
            yield newest._replace(index=index)
            index += 1
        newest = step
