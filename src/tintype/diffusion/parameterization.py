"""Prediction types as one table: "noise", "velocity", "image" and "edm" differ by four scalars of sigma.

    denoised = c_skip * x + c_out * network(c_in * x, c_noise)        (Karras et al. 2022, arXiv 2206.00364, eq. 7)

The choice decides which levels are easy for the network. It does not change the loss weight (loss.py) or the sampler:
the predicted noise is (x - denoised) / sigma whatever the network outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from tintype.diffusion.names import PREDICTION_ALIASES
from tintype.diffusion.sigmas import per_sample

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x [B, C, H, W], sigma [B]) -> denoised [B, C, H, W]


class Scalings(NamedTuple):
    """The four scalars of a `Prediction`, each a tensor [B] like sigma.

    denoised = c_skip * x + c_out * net(c_in * x, c_noise)
    """

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


class Prediction(Protocol):
    """What a network predicts, as the four scalars of EDM (Karras et al. 2022, arXiv 2206.00364, eq. 7).

        denoised = c_skip * x + c_out * net(c_in * x, c_noise),    x = x0 + sigma * noise

        def v_prediction(sigma: torch.Tensor, sigma_data: float) -> tintype.Scalings:
            total = sigma**2 + 1
            return tintype.Scalings(1 / total, -sigma / total.sqrt(), total.rsqrt(), sigma.log() / 4)

        for report in tintype.train("photos", "run", prediction=v_prediction): ...
        pipeline = tintype.Pipeline.load("run", prediction=v_prediction)

    sigma: [B] float32 > 0. sigma_data: standard deviation of x0, `config.noise.sigma_data`. Returns `Scalings` of
    tensors [B]. The target of the network follows: (x0 - c_skip * x) / c_out. The loss weight does not: it is chosen
    by itself and always weighs mean((denoised - x0)^2).

    Raises ConfigError before the first step for scalars of another shape, or that are not finite.
    """

    def __call__(self, sigma: Tensor, sigma_data: float, /) -> Scalings: ...


def _noise(sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor]:
    return torch.ones_like(sigma), -sigma


def _velocity(sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor]:
    # noise - x0, the slope of the straight path (1 - t) x0 + t noise at t = sigma / (1 + sigma): the velocity of flow
    # matching (Liu et al. 2022, arXiv 2209.03003). Beware: "v-prediction" elsewhere is another target, alpha noise -
    # sigma x0 of the variance-preserving path (Salimans and Ho 2022, arXiv 2202.00512, appendix D).
    return 1 / (1 + sigma), -sigma / (1 + sigma)


def _image(sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(sigma), torch.ones_like(sigma)


def _edm(sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor]:
    # Karras et al. 2022, arXiv 2206.00364, table 1: a target of unit variance with the least amplified error.
    total = sigma.square() + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / total.sqrt()


_ROWS: dict[str, Callable[[Tensor, float], tuple[Tensor, Tensor]]] = {
    "noise": _noise,
    "velocity": _velocity,
    "image": _image,
    "edm": _edm,
}
PREDICTIONS: tuple[str, ...] = tuple(_ROWS)


def scalings(prediction: str, sigma: Tensor, sigma_data: float) -> Scalings:
    """The row of the table for one prediction type or alias, at sigma > 0. Raises ValueError for an unknown type."""
    prediction = PREDICTION_ALIASES.get(prediction, prediction)
    if prediction not in _ROWS:
        raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, not {prediction!r}")
    c_skip, c_out = _ROWS[prediction](sigma, sigma_data)
    c_in = torch.rsqrt(sigma.square() + sigma_data**2)
    return Scalings(c_skip, c_out, c_in, torch.log(sigma) / 4)


def denoised_from(prediction: str, output: Tensor, x: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """The clean picture that a network output [B, ...] stands for, with x [B, ...] at sigma [B]."""
    row = scalings(prediction, sigma, sigma_data)
    return per_sample(row.c_skip, x) * x + per_sample(row.c_out, x) * output


def network_target(prediction: str, denoised: Tensor, x: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """The network output that stands for `denoised`; with x0 for denoised, the training target."""
    row = scalings(prediction, sigma, sigma_data)
    return (denoised - per_sample(row.c_skip, x) * x) / per_sample(row.c_out, x)


def predicted_noise(x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
    """The noise that a denoised picture implies, (x - denoised) / sigma, for x [B, ...] at sigma [B] > 0."""
    return (x - denoised) / per_sample(sigma, x)
