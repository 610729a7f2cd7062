"""Noise error: mean squared error of the predicted noise, per picture and noise level."""

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
        columns = []
        for level in sigmas.tolist():
            sigma = torch.full((len(clean),), level, device=device)
            columns.append(noise_error(denoise(add_noise(clean, eps, sigma), sigma), clean, sigma).double().cpu())
            yield len(clean)
        rows.append(torch.stack(columns, dim=1))
    return torch.cat(rows) if rows else torch.empty(0, len(sigmas), dtype=torch.float64)
