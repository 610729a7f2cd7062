"""Steps whose loss stands out, and the pictures to blame."""

from __future__ import annotations

from collections import deque
from statistics import median

import torch
from torch import Tensor

from tintype.training.core.trainer import StepReport

REMEMBERED, FEWEST = 256, 32  # losses that a step is compared with
TIMES = 4.0  # the median that makes a spike
NAMED = 4  # pictures


class Spikes:
    """Compares the loss of each step with those before."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=REMEMBERED)

    def is_spike(self, report: StepReport) -> bool:
        """Whether the loss of a step is far above all that was seen lately."""
        if report.skipped:
            return False
        known = self._losses
        found = len(known) >= FEWEST and report.loss > TIMES * median(known) and report.loss > 1.5 * max(known)
        known.append(report.loss)
        return found


def worst(losses: Tensor) -> Tensor:
    """Places in a batch of `losses` [B] of the largest, those that are not finite before all others: [N] int64."""
    places = torch.nan_to_num(losses, nan=torch.inf, neginf=torch.inf).argsort(descending=True, stable=True)
    return places[:NAMED]
