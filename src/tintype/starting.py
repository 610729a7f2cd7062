"""Where the pictures of a request start: noise levels, starting noise, an init image with noise on it."""

from __future__ import annotations

import torch
from torch import Tensor

from tintype.config import NoiseConfig
from tintype.diffusion.noise import Purpose, add_noise, normal, slerp
from tintype.diffusion.sigmas import GRIDS
from tintype.request import Request


def sigmas_of(request: Request, level: NoiseConfig) -> Tensor:
    """The noise levels of a request, float64: of its grid, those up to its strength; ending in 0 but for `invert`.

    A picture that is led back to noise is taken to be at the lowest noise level, and is led back to there.
    """
    grid = GRIDS[request.grid]
    sigmas = grid(request.steps, level.sigma_min, level.sigma_max, request.center)
    if request.strength < 1:
        sigma = level.sigma_min * (level.sigma_max / level.sigma_min) ** request.strength
        num = max(1, int((sigmas[:-1] <= sigma * (1 + 1e-9)).sum()))
        sigmas = grid(num, level.sigma_min, sigma, request.center)
    if request.invert is None:
        return sigmas
    return sigmas[:-1] if len(sigmas) > 2 else torch.tensor([float(sigmas[0]), level.sigma_min], dtype=torch.float64)


def noise_of(request: Request, channels: int) -> Tensor:
    """The starting noise of each picture, [B, C, H, W] float32 on the CPU: drawn there for every device, as not every
    device has 64-bit integers."""
    shape = (channels, request.height, request.width)
    own = normal(torch.tensor(request.seeds), Purpose.START, torch.tensor(request.indices), shape)
    return mixed_noise(request, own)


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
