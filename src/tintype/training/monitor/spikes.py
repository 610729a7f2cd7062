"""Loss spikes: steps with an unusually large loss, and the pictures with the largest losses."""

from __future__ import annotations

from collections import deque
from statistics import median

import torch
from torch import Tensor

from tintype.training.core.trainer import StepReport

WINDOW, MIN_LOSSES = 256, 32  # previous losses that a step is compared with
FACTOR = 4.0  # a loss above this many medians is a spike
MAX_NAMED = 4  # pictures named for one step


class Spikes:
    """Compares the loss of each step with those before."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=WINDOW)

    def is_spike(self, report: StepReport) -> bool:
        """Whether the loss of a step is far above all recent losses."""
        if report.skipped:
            return False
        losses = self._losses
        is_spike = len(losses) >= MIN_LOSSES and report.loss > max(FACTOR * median(losses), 1.5 * max(losses))
        losses.append(report.loss)
        return is_spike


def largest_losses(losses: Tensor) -> Tensor:
    """Indices [N] int64 of the largest `losses` [B] in a batch; those that are not finite come first."""
    indices = torch.nan_to_num(losses, nan=torch.inf, neginf=torch.inf).argsort(descending=True, stable=True)
    return indices[:MAX_NAMED]
