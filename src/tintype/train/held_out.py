"""The error of the predicted noise on held-out pictures, with their captions, with those of others, and with none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tintype.diffusion.loss import noise_error
from tintype.diffusion.noise import Purpose, add_noise
from tintype.train.objective import Objective
from tintype.train.samples import Samples, rolled
from tintype.train.target import LEVELS as LEVELS

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
def held_out_errors(
    objective: Objective, samples: Samples, held_out: Tensor, captions: Sequence[Captions]
) -> dict[str, dict[float, float]]:
    """Mean squared error of the predicted noise, by captions and noise level, with the weights as they are now.

    The same pictures and noise every time. In distillation the noise is the one that leads to where the teacher's flow
    ends, and the levels are those of the student's steps. A model that reads captions is worse with those of other
    pictures ("shuffled") and with "empty" ones. No levels if no sample is in `held_out` [N].
    """
    indices = held_out[:MAX_MEASURED]
    if not len(indices):
        return {kind: {} for kind in captions}
    others, levels = rolled(indices), objective.target.levels
    with objective.precision():
        found = [
            _errors_of(objective, samples, indices[places], others[places], captions)
            for places in samples.by_shape(indices)
        ]
    return {
        kind: {level: float(torch.cat([errors[kind, level] for errors in found]).mean()) for level in levels}
        for kind in captions
    }


def _errors_of(
    objective: Objective, samples: Samples, indices: Tensor, others: Tensor, captions: Sequence[Captions]
) -> dict[tuple[Captions, float], Tensor]:
    """Error [B] by captions and noise level of held-out pictures of one shape."""
    x0 = objective.x0(samples.pictures(indices))
    noise = objective.normal(Purpose.EVALUATE, indices, tuple(x0.shape[1:]))
    own = samples.states(indices, torch.zeros_like(indices))
    told = {
        "true": own,
        "shuffled": samples.states(others, torch.zeros_like(others)),
        "empty": [state[:0] for state in own],
    }
    conds = {kind: objective.denoiser.condition(told[kind]) for kind in captions}
    errors = {}
    for level in objective.target.levels:
        sigma = torch.full((len(x0),), level, device=x0.device)
        x = add_noise(x0, noise, sigma)
        target = objective.target(x0, x, sigma, own)
        for kind, cond in conds.items():
            errors[kind, level] = noise_error(objective.denoiser(x, sigma, cond), target, sigma)
    return errors
