"""The training loss, a weighted error, and the error of the predicted noise, which every report gives.

The weight is a separate choice, never a consequence of the prediction type. Every weight multiplies
mean((denoised - x0)^2); Kingma and Gao 2023 (arXiv 2303.00848) relate them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.sigmas import flow_time

Weight = Callable[[Tensor, float], Tensor]  # (sigma [B], sigma_data) -> [B]
TIME_FLOOR = 0.05  # below it 1 / t^2 would let invisible noise dominate training (Li and He 2025, arXiv 2511.13720)


def _noise(sigma: Tensor, sigma_data: float) -> Tensor:
    return 1 / sigma.square()


def _velocity(sigma: Tensor, sigma_data: float) -> Tensor:
    return 1 / flow_time(sigma).clamp(min=TIME_FLOOR).square()


def _image(sigma: Tensor, sigma_data: float) -> Tensor:
    return torch.ones_like(sigma)


def _edm(sigma: Tensor, sigma_data: float) -> Tensor:
    return (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()


WEIGHTS: dict[str, Weight] = {"noise": _noise, "velocity": _velocity, "image": _image, "edm": _edm}


class LossWeight(Protocol):
    """Weigh the error of each noise level: a function of sigma alone.

        def min_snr(sigma: torch.Tensor) -> torch.Tensor:  # Hang et al. 2023, arXiv 2303.09556, for prediction of x0
            return (1 / sigma**2).clamp(max=5)

        for report in tintype.train("photos", "run", loss_weight=min_snr): ...

    sigma: [B] float32 > 0. Returns the weights [B] of mean((denoised - x0)^2), whatever the network predicts. They
    take the place of `noise.weight` and `noise.weight_fade` in the configuration.

    Raises ConfigError before the first step for weights of another shape, or that are not finite.
    """

    def __call__(self, sigma: Tensor, /) -> Tensor: ...


def loss_weight(name: str, sigma: Tensor, sigma_data: float, fade: float = 0.0) -> Tensor:
    """The weight `name` at noise levels sigma [B], which falls as fade / sigma above the level `fade`; 0: nowhere.

    Under so much noise most of the error is irreducible, and its gradient drowns the rest. With the fade, levels count
    about equally, as with weights learned from the errors (Karras et al. 2024, arXiv 2312.02696).
    """
    weight = WEIGHTS[name](sigma, sigma_data)
    return weight / (1 + (sigma / fade).square()).sqrt() if fade > 0 else weight


def diffusion_loss(denoise: Denoise, x: Tensor, target: Tensor, sigma: Tensor, weight: Tensor) -> Tensor:
    """Weighted error of each sample, unreduced: [B], in the dtype of the target.

    x [B, ...]: noisy pictures; target [B, ...]: the clean pictures, or what else to predict of x; sigma [B]; weight
    [B], as from `WEIGHTS[name](sigma, sigma_data)`.
    """
    return weight * _mean_square(denoise(x, sigma), target)


def noise_error(denoised: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """Mean over pixels of (predicted noise - noise)^2, which is mean((denoised - x0)^2) / sigma^2: [B]."""
    return _mean_square(denoised, x0) / sigma.square()


def per_level(values: Tensor, sigma: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of `values` [N] within each band of noise levels, edges[k] <= sigma < edges[k + 1].

    edges [K + 1] increasing. Returns means [K] (nan where a band is empty) and counts [K] int64; values outside
    the edges do not count.
    """
    num_bands = len(edges) - 1
    band = torch.bucketize(sigma, edges.to(sigma), right=True) - 1
    inside = (band >= 0) & (band < num_bands)
    band = band[inside]
    total = values.new_zeros(num_bands).index_add_(0, band, values[inside])
    count = torch.bincount(band, minlength=num_bands)
    return total / count, count


def _mean_square(denoised: Tensor, x0: Tensor) -> Tensor:
    # The subtraction happens in the dtype of x0, whatever the network computes in.
    return (denoised.to(x0.dtype) - x0).square().flatten(1).mean(dim=1)
