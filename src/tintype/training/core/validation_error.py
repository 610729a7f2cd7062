"""Validation errors: noise errors of pictures with their own captions, with those of other pictures, and with none."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tintype.diffusion.noise import Purpose
from tintype.diffusion.parameterization import Denoise
from tintype.metrics.intervals import Estimate
from tintype.metrics.noise_error import errors_by_level
from tintype.training.core.batches import Samples, shuffled
from tintype.training.core.objective import Objective
from tintype.training.core.target import LEVELS as LEVELS

MAX_MEASURED = 64  # pictures of each subset that are measured
Captions = Literal["true", "shuffled", "empty"]
CAPTIONS: tuple[Captions, ...] = ("true", "shuffled", "empty")


@dataclass(frozen=True, slots=True)
class ValidationMetrics:
    """The results of a validation."""

    images_seen: int = -1
    errors: dict[str, dict[float, float]] = field(default_factory=dict)  # by captions or subset, by noise level
    memorization: dict[str, Estimate] = field(default_factory=dict)  # the gauge by noise level and over all

    @property
    def noise_error(self) -> dict[float, float]:
        """Errors of held-out pictures with their own captions, by noise level."""
        return self.errors.get("true", {})

    @property
    def score(self) -> float | None:
        """One number for a checkpoint: the geometric mean of the errors, in which every noise level counts equally."""
        return score(self.noise_error)


def score(errors: dict[float, float]) -> float | None:
    """The geometric mean of errors by noise level; None if there are none, or they are not finite."""
    usable = [error for error in errors.values() if 0 < error < math.inf]
    if not usable or len(usable) < len(errors):
        return None
    return math.exp(sum(map(math.log, usable)) / len(usable))


@torch.no_grad()
def noise_errors(
    objective: Objective, samples: Samples, indices: Tensor, captions: Sequence[Captions]
) -> Generator[int, None, dict[Captions, Tensor]]:
    """Mean squared error of the predicted noise of each picture at each level, with the current weights.

    A picture has the same noise every time. In distillation the error is measured to the noise that leads to the end of
    the teacher's flow, at the noise levels of the student's steps. A model that uses captions does worse with those of
    other pictures ("shuffled") and with "empty" ones. indices: [N]. Yields the number of pictures after each level of
    one shape. Returns [N, K] float64 on the CPU by captions.
    """
    others = shuffled(indices)
    errors = {name: torch.empty(len(indices), len(objective.target.levels), dtype=torch.float64) for name in captions}
    with objective.precision():
        for rows in samples.by_shape(indices) if len(indices) else []:
            found = yield from _errors_of(objective, samples, indices[rows], others[rows], captions)
            for name, values in found.items():
                errors[name][rows] = values
    return errors


def by_level(errors: Tensor, levels: Sequence[float]) -> dict[float, float]:
    """Means of errors [N, K] by noise level; empty if there are none."""
    return dict(zip(levels, errors.mean(0).tolist(), strict=True)) if len(errors) else {}


def _errors_of(
    objective: Objective, samples: Samples, indices: Tensor, others: Tensor, captions: Sequence[Captions]
) -> Generator[int, None, dict[Captions, Tensor]]:
    """Errors [B, K] by captions, for pictures of one shape."""
    x0 = objective.x0(samples.pictures(indices))
    noise = objective.normal(Purpose.EVALUATE, indices, tuple(x0.shape[1:]))
    true = samples.text_embeddings(indices, torch.zeros_like(indices))
    embeddings = {
        "true": true,
        "shuffled": samples.text_embeddings(others, torch.zeros_like(others)),
        "empty": [state[:0] for state in true],
    }

    def denoiser(captions: Captions) -> Denoise:
        cond = objective.denoiser.condition(embeddings[captions])
        return lambda x, sigma: objective.denoiser(x, sigma, cond)

    errors = yield from errors_by_level(
        [denoiser(name) for name in captions],
        x0,
        noise,
        objective.target.levels,
        lambda x, sigma: objective.target(x0, x, sigma, true),
    )
    return dict(zip(captions, errors, strict=True))
