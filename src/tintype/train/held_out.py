"""The error of the predicted noise, on held-out pictures above all: with their captions, those of others, and none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tintype.diffusion.loss import noise_error
from tintype.diffusion.noise import Purpose, add_noise
from tintype.statistics import Estimate
from tintype.train.objective import Objective
from tintype.train.samples import Samples, rolled

LEVELS = (0.1, 0.3, 1.0, 3.0, 10.0)  # noise levels at which errors are measured
MAX_MEASURED = 64  # pictures of a kind that are measured
Captions = Literal["true", "shuffled", "empty"]
CAPTIONS: tuple[Captions, ...] = ("true", "shuffled", "empty")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look has found."""

    images_seen: int = -1
    errors: dict[str, dict[float, float]] = field(default_factory=dict)  # of the noise, by what, by noise level
    memorization: dict[str, Estimate] = field(default_factory=dict)  # the gauge, by noise level and of all

    @property
    def noise_error(self) -> dict[float, float]:
        """Of held-out pictures with their own captions."""
        return self.errors.get("true", {})

    @property
    def score(self) -> float | None:
        """One number for a checkpoint: the geometric mean of the errors, so that every noise level counts alike."""
        return score(self.noise_error)


def score(errors: dict[float, float]) -> float | None:
    """The geometric mean of errors by noise level; None if there are none, or they are not finite."""
    found = [error for error in errors.values() if 0 < error < math.inf]
    if not found or len(found) < len(errors):
        return None
    return math.exp(sum(map(math.log, found)) / len(found))


@torch.no_grad()
def noise_errors(objective: Objective, samples: Samples, indices: Tensor, captions: Captions = "true") -> Tensor:
    """Mean squared error of the predicted noise of each picture at each level, with the weights as they are now.

    The same noise for a picture every time. A model that reads captions is worse with those of other pictures
    ("shuffled") and with "empty" ones. indices: [N]. Returns [N, L] float64 on the CPU.
    """
    others = rolled(indices)
    found = torch.empty(len(indices), len(LEVELS), dtype=torch.float64)
    with objective.precision():
        for places in samples.by_shape(indices) if len(indices) else []:
            found[places] = _errors_of(objective, samples, indices[places], others[places], captions)
    return found


def by_level(errors: Tensor) -> dict[float, float]:
    """Means of errors [N, L] by noise level; empty if there are none."""
    return dict(zip(LEVELS, errors.mean(0).tolist(), strict=True)) if len(errors) else {}


def _errors_of(objective: Objective, samples: Samples, indices: Tensor, others: Tensor, captions: Captions) -> Tensor:
    """Errors [B, L] of pictures of one shape."""
    x0 = objective.x0(samples.pictures(indices))
    noise = objective.normal(Purpose.EVALUATE, indices, tuple(x0.shape[1:]))
    described = others if captions == "shuffled" else indices
    states = samples.states(described, torch.zeros_like(indices))
    if captions == "empty":
        states = [state[:0] for state in states]
    cond = objective.denoiser.condition(states)
    errors = []
    for level in LEVELS:
        sigma = torch.full((len(x0),), level, device=x0.device)
        denoised = objective.denoiser(add_noise(x0, noise, sigma), sigma, cond)
        errors.append(noise_error(denoised, x0, sigma).double().cpu())
    return torch.stack(errors, dim=1)
