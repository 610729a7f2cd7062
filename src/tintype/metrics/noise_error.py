"""Noise error: mean squared error of the predicted noise, per picture and noise level, in training and evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from tintype.config import NoiseConfig
from tintype.diffusion.loss import noise_error
from tintype.diffusion.noise import Purpose, add_noise, normal
from tintype.diffusion.parameterization import Denoise

CaptionedDenoiser = Callable[[Sequence[str]], Denoise]  # one caption per picture -> the denoiser conditioned on them
NUM_LEVELS = 16


def noise_levels(noise: NoiseConfig, num: int = NUM_LEVELS) -> Tensor:
    """`num` noise levels, evenly spaced in ln sigma from the model's sigma_min to sigma_max: [num] float32."""
    ends = math.log(noise.sigma_min), math.log(noise.sigma_max)
    return torch.linspace(*ends, num, dtype=torch.float64).exp().float()


def evaluation_noise(seed: int, indices: Tensor, shape: Sequence[int]) -> Tensor:
    """The noise of the pictures at `indices` [N], the same for every noise level and model: [N, *shape] float32."""
    return normal(seed, Purpose.EVALUATE, indices.cpu(), tuple(shape))


@torch.no_grad()
def noise_errors(
    denoiser: CaptionedDenoiser,
    x0: Tensor,
    captions: Sequence[str],
    noise: Tensor,
    sigmas: Tensor,
    *,
    batch: int = 64,
    device: torch.device | str = "cpu",
) -> Generator[int, None, Tensor]:
    """Mean squared error of the predicted noise of each picture at each noise level.

    x0, noise: [N, C, H, W] of one shape; captions: N; sigmas: [K]. Yields the number of pictures just denoised.
    Returns [N, K] float64 on the CPU.
    """
    rows = []
    for start in range(0, len(x0), batch):
        clean, eps = x0[start : start + batch].to(device), noise[start : start + batch].to(device)
        denoise = denoiser(captions[start : start + batch])
        rows.append((yield from errors_by_level([denoise], clean, eps, sigmas.tolist()))[0])
    return torch.cat(rows) if rows else torch.empty(0, len(sigmas), dtype=torch.float64)


@torch.no_grad()
def errors_by_level(
    denoisers: Sequence[Denoise],
    x0: Tensor,
    noise: Tensor,
    sigmas: Sequence[float],
    target: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Generator[int, None, Tensor]:
    """Noise errors of several denoisers, such as one network with different captions, on the same noisy pictures.

    x0, noise: [B, C, H, W] on the device of the denoisers; sigmas: K noise levels. target: gives what x [B, C, H, W]
    should be denoised to at sigma [B]; None: x0. Yields B after each level. Returns [denoisers, B, K] float64 on the
    CPU.
    """
    errors: list[list[Tensor]] = [[] for _ in denoisers]
    for level in sigmas:
        sigma = torch.full((len(x0),), level, device=x0.device)
        x = add_noise(x0, noise, sigma)
        expected = x0 if target is None else target(x, sigma)
        for denoise, columns in zip(denoisers, errors, strict=True):
            columns.append(noise_error(denoise(x, sigma), expected, sigma).double().cpu())
        yield len(x0)
    return torch.stack([torch.stack(columns, dim=1) for columns in errors])
