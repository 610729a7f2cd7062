"""The band where copies are made: noise levels at which pictures are known by heart count less in the loss.

Copies come from the middle noise levels: where the denoiser is trained less there, samples copy less and are better
(arXiv 2602.17846). How far training pictures are easier than held-out ones is measured at certain positions of the run,
level by level. Where that gauge exceeds its limit, the weight of the level halves; where it does not, the weight
recovers half as fast. So the gauge stays about at its limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tintype.config import TrainConfig
from tintype.diffusion.noise import EvalSubset, Purpose, permutation

MIN_PICTURES = 8  # held out; with fewer there is no gauge
MAX_PICTURES = 32  # of each subset that are measured
FIRST = 20.0  # times each picture is shown before the first measurement; by heart takes longer
GROWTH = 1.25  # of the images between measurements
MAX_STEPS = 10  # of the square root of 1/2 each: the lowest weight is 1/32


class MemorizedBand:
    """The weights of noise levels, which measurements move.

    Args:
        levels: noise levels that are measured, ascending.
        training, held_out: indices of the samples.
    """

    def __init__(self, train: TrainConfig, levels: Sequence[float], training: Tensor, held_out: Tensor) -> None:
        order = permutation(train.seed, Purpose.MEASURED, EvalSubset.TRAINING, len(training))
        self.training = training[order[:MAX_PICTURES].sort().values]
        self.held_out = held_out[:MAX_PICTURES]
        self._limit = train.memorized_limit if len(held_out) >= MIN_PICTURES else 0.0
        self._levels = torch.tensor(levels)
        self._first = max(1, math.ceil(FIRST * len(training)))
        self.steps = [0] * len(levels)

    def is_due(self, before: int, after: int) -> bool:
        """Whether a measurement lies between two numbers of images seen."""
        position = self._first
        while position <= before:
            position = math.ceil(position * GROWTH)
        return self._limit > 0 and position <= after

    def update(self, held_out: Tensor, training: Tensor) -> None:
        """Move the weights after a measurement: noise errors [M, K] and [N, K]."""
        unseen, seen = held_out.mean(0), training.mean(0)
        for level, gauge in enumerate(((unseen - seen) / unseen).tolist()):
            moved = self.steps[level] + (2 if gauge > self._limit else -1)
            self.steps[level] = min(MAX_STEPS, max(0, moved))

    def weight(self, sigma: Tensor) -> Tensor:
        """The weight at noise levels sigma [B], 1 or less: [B]. Between levels it is interpolated over ln sigma."""
        logs, x = self._levels.log().to(sigma), sigma.log()
        steps = torch.tensor(self.steps).to(sigma)
        upper = torch.searchsorted(logs, x).clamp(1, len(logs) - 1)
        share = ((x - logs[upper - 1]) / (logs[upper] - logs[upper - 1])).clamp(0, 1)
        return torch.exp2(-0.5 * torch.lerp(steps[upper - 1], steps[upper], share))

    def counts(self) -> dict[str, int]:
        """The state, for a checkpoint."""
        return {self._name(level): steps for level, steps in enumerate(self.steps)} if self._limit else {}

    def load(self, counts: Mapping[str, int]) -> None:
        """Restore `counts()`; a checkpoint from before has none, and all weights are 1."""
        self.steps = [counts.get(self._name(level), 0) for level in range(len(self.steps))]

    def _name(self, level: int) -> str:
        return f"band_{float(self._levels[level]):g}"
