"""The error of the predicted noise, on held-out pictures above all: with their captions, those of others, and none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tintype.diffusion.loss import noise_error
from tintype.diffusion.noise import Purpose, add_noise
from tintype.metrics.intervals import Estimate
from tintype.training.core.batches import Samples, rolled
from tintype.training.core.objective import Objective
from tintype.training.core.target import LEVELS as LEVELS

MAX_MEASURED = 64  # pictures of a kind that are measured
Captions = Literal["true", "shuffled", "empty"]
CAPTIONS: tuple[Captions, ...] = ("true", "shuffled", "empty")


@dataclass(frozen=True, slots=True)
class ValidationMetrics:
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
def noise_errors(
    objective: Objective, samples: Samples, indices: Tensor, captions: Sequence[Captions]
) -> dict[Captions, Tensor]:
    """Mean squared error of the predicted noise of each picture at each level, with the weights as they are now.

    The same noise for a picture every time. In distillation it is the one that leads to where the teacher's flow ends,
    and the levels are those of the student's steps. A model that reads captions is worse with those of other pictures
    ("shuffled") and with "empty" ones. indices: [N]. Returns [N, L] float64 on the CPU by captions.
    """
    others = rolled(indices)
    found = {kind: torch.empty(len(indices), len(objective.target.levels), dtype=torch.float64) for kind in captions}
    with objective.precision():
        for places in samples.by_shape(indices) if len(indices) else []:
            for kind, errors in _errors_of(objective, samples, indices[places], others[places], captions).items():
                found[kind][places] = errors
    return found


def by_level(errors: Tensor, levels: Sequence[float]) -> dict[float, float]:
    """Means of errors [N, L] by noise level; empty if there are none."""
    return dict(zip(levels, errors.mean(0).tolist(), strict=True)) if len(errors) else {}


def _errors_of(
    objective: Objective, samples: Samples, indices: Tensor, others: Tensor, captions: Sequence[Captions]
) -> dict[Captions, Tensor]:
    """Errors [B, L] by captions, of pictures of one shape."""
    x0 = objective.x0(samples.pictures(indices))
    noise = objective.normal(Purpose.EVALUATE, indices, tuple(x0.shape[1:]))
    own = samples.states(indices, torch.zeros_like(indices))
    told = {
        "true": own,
        "shuffled": samples.states(others, torch.zeros_like(others)),
        "empty": [state[:0] for state in own],
    }
    conds = {kind: objective.denoiser.condition(told[kind]) for kind in captions}
    errors: dict[Captions, list[Tensor]] = {kind: [] for kind in captions}
    for level in objective.target.levels:
        sigma = torch.full((len(x0),), level, device=x0.device)
        x = add_noise(x0, noise, sigma)
        target = objective.target(x0, x, sigma, own)
        for kind, cond in conds.items():
            errors[kind].append(noise_error(objective.denoiser(x, sigma, cond), target, sigma).double().cpu())
    return {kind: torch.stack(found, dim=1) for kind, found in errors.items()}
