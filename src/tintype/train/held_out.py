"""The error of the predicted noise on held-out pictures, with their captions, with those of others, and with none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tintype.diffusion.loss import noise_error
from tintype.diffusion.noise import Purpose, add_noise
from tintype.train.objective import Objective
from tintype.train.samples import Samples, rolled

LEVELS = (0.1, 0.3, 1.0, 3.0, 10.0)  # noise levels at which the held-out error is measured
MAX_MEASURED = 64  # held-out pictures that are measured
Captions = Literal["true", "shuffled", "empty"]
CAPTIONS: tuple[Captions, ...] = ("true", "shuffled", "empty")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look has found."""

    images_seen: int = -1
    errors: dict[str, dict[float, float]] = field(default_factory=dict)  # of the noise, by captions, by noise level

    @property
    def noise_error(self) -> dict[float, float]:
        """With the true captions."""
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
def held_out_error(objective: Objective, samples: Samples, held_out: Tensor, captions: Captions) -> dict[float, float]:
    """Mean squared error of the predicted noise by noise level, with the weights as they are now.

    The same pictures and noise every time. A model that reads captions is worse with those of other pictures
    ("shuffled") and with "empty" ones. Empty if no sample is in `held_out` [N].
    """
    indices = held_out[:MAX_MEASURED]
    if not len(indices):
        return {}
    others = rolled(indices)
    with objective.precision():
        found = [
            _errors_of(objective, samples, indices[places], others[places], captions)
            for places in samples.by_shape(indices)
        ]
    return {level: float(torch.cat([errors[level] for errors in found]).mean()) for level in LEVELS}


def _errors_of(
    objective: Objective, samples: Samples, indices: Tensor, others: Tensor, captions: Captions
) -> dict[float, Tensor]:
    """Error [B] at each noise level of held-out pictures of one shape."""
    x0 = objective.x0(samples.pictures(indices))
    noise = objective.normal(Purpose.EVALUATE, indices, tuple(x0.shape[1:]))
    described = others if captions == "shuffled" else indices
    states = samples.states(described, torch.zeros_like(indices))
    if captions == "empty":
        states = [state[:0] for state in states]
    cond = objective.denoiser.condition(states)
    errors = {}
    for level in LEVELS:
        sigma = torch.full((len(x0),), level, device=x0.device)
        denoised = objective.denoiser(add_noise(x0, noise, sigma), sigma, cond)
        errors[level] = noise_error(denoised, x0, sigma)
    return errors
