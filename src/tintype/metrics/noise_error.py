"""How wrong the predicted noise is, picture by picture, at noise levels from slight to complete static."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from tintype.config import NoiseConfig
from tintype.diffusion.loss import noise_error
from tintype.diffusion.noise import Purpose, add_noise, normal
from tintype.diffusion.parameterization import Denoise

CaptionedDenoiser = Callable[[Sequence[str]], Denoise]  # captions, one a picture -> the denoiser that was told them
NUM_LEVELS = 16


def noise_levels(noise: NoiseConfig, num: int = NUM_LEVELS) -> Tensor:
    """`num` noise levels, evenly spaced in ln sigma over what the model is made for: [num] float32."""
    ends = math.log(noise.sigma_min), math.log(noise.sigma_max)
    return torch.linspace(*ends, num, dtype=torch.float64).exp().float()


def evaluation_noise(seed: int, indices: Tensor, shape: Sequence[int]) -> Tensor:
    """The noise of the pictures `indices` [N], the same at every level and for every model: [N, *shape] float32."""
    return normal(seed, Purpose.EVALUATE, indices.cpu(), tuple(shape))


@torch.no_grad()
def noise_errors(
    given: CaptionedDenoiser,
    x0: Tensor,
    captions: Sequence[str],
    noise: Tensor,
    sigmas: Tensor,
    *,
    batch: int = 64,
    device: torch.device | str = "cpu",
) -> Generator[int, None, Tensor]:
    """Mean squared error of the predicted noise, for each picture at each level.

    x0, noise: [N, C, H, W] of one shape; captions: N; sigmas: [K]. Yields how many pictures were denoised; returns
    [N, K] float64 on the CPU.
    """
    rows = []
    for start in range(0, len(x0), batch):
        clean, drawn = x0[start : start + batch].to(device), noise[start : start + batch].to(device)
        denoise = given(captions[start : start + batch])
        columns = []
        for level in sigmas.tolist():
            sigma = torch.full((len(clean),), level, device=device)
            columns.append(noise_error(denoise(add_noise(clean, drawn, sigma), sigma), clean, sigma).double().cpu())
            yield len(clean)
        rows.append(torch.stack(columns, dim=1))
    return torch.cat(rows) if rows else torch.empty(0, len(sigmas), dtype=torch.float64)
