"""The start of sampling: a request's noise levels, its starting noise, and an init image with noise added."""

from __future__ import annotations

import torch
from torch import Tensor

from tintype.config import NoiseConfig
from tintype.diffusion.noise import Purpose, add_noise, normal, slerp
from tintype.diffusion.samplers import SAMPLERS, Sampler
from tintype.diffusion.sigmas import SCHEDULES
from tintype.pipeline.limits import MAX_SIGMA, MAX_STEPS
from tintype.pipeline.request import Request
from tintype.pipeline.validators import noise_levels


def request_sampler(request: Request) -> Sampler:
    """The sampler of a request."""
    return SAMPLERS[request.sampler] if isinstance(request.sampler, str) else request.sampler


def request_sigmas(request: Request, config: NoiseConfig) -> Tensor:
    """The noise levels of a request, [K + 1] float64: those of its schedule up to its strength, then 0.

    Raises ConfigError if a schedule function returns anything but noise levels that decrease to 0.
    """
    sigmas = _scheduled(request, request.steps, config.sigma_min, config.sigma_max)
    if request.strength < 1:
        sigma = config.sigma_min * (config.sigma_max / config.sigma_min) ** request.strength
        num = int((sigmas[:-1] <= sigma * (1 + 1e-9)).sum())
        num = max(1 if request.source_caption is None else 2, num)
        if isinstance(request.schedule, tuple):
            return sigmas[-num - 1 :]
        sigmas = _scheduled(request, num, config.sigma_min, sigma)
    return sigmas


def _scheduled(request: Request, steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    if isinstance(request.schedule, tuple):
        return torch.tensor(request.schedule, dtype=torch.float64)
    if isinstance(request.schedule, str):
        return SCHEDULES[request.schedule](steps, sigma_min, sigma_max, request.center, request.spread)
    levels = request.schedule(steps, sigma_min, sigma_max, request.center, request.spread)
    least_steps = 1 if request.source_caption is None else 2
    return torch.tensor(noise_levels("schedule", levels, least_steps, MAX_STEPS, MAX_SIGMA), dtype=torch.float64)


def initial_noise(request: Request, shape: tuple[int, int, int]) -> Tensor:
    """The starting noise of each picture, [B, C, H, W] float32 on the CPU."""
    return interpolated_noise(request, seed_noise(request, shape))


def seed_noise(request: Request, shape: tuple[int, int, int]) -> Tensor:
    """The noise of each picture's seed and index alone, [B, C, H, W] float32 on the CPU.

    The CPU draws it for every device, since not every device has 64-bit integers.
    """
    return normal(torch.tensor(request.seeds), Purpose.START, torch.tensor(request.indices), shape)


def interpolated_noise(request: Request, noise: Tensor) -> Tensor:
    """Noise [B, C, H, W] on the CPU, interpolated with the noise of `seeds_to` by each picture's mix weight."""
    if not request.seeds_to or not any(request.mix_weights):
        return noise
    seeds, indices = torch.tensor(request.seeds_to), torch.tensor(request.indices_to)
    other = normal(seeds, Purpose.START, indices, tuple(noise.shape[1:]))
    return slerp(noise, other, torch.tensor(request.mix_weights))


def initial_x(noise: Tensor, sigma: float, x0: Tensor | None) -> Tensor:
    """What sampling starts from, [B, C, H, W]: pure noise of level sigma, or x0 [1, C, H, W] with such noise added."""
    if x0 is None:
        return sigma * noise
    return add_noise(x0.expand_as(noise), noise, noise.new_full((len(noise),), sigma))
