"""How far a model has gone from understanding its pictures to knowing them by heart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tintype.evaluate.statistics import Estimate, bootstrap


def gauge(held_out: Tensor, training: Tensor, ideal: Tensor, weights: Tensor, seed: int) -> list[Estimate]:
    """(held-out - training) / (held-out - ideal): 0 does no better on training pictures, 1 knows them by heart.

    held_out [N, K], training [M, K]: noise errors of the model; ideal [M, K]: of the ideal denoiser of the training set
    on the same pictures and noise. weights [K]: of a level in the last figure, which is for all levels together.
    Returns K + 1 estimates.
    """

    def figure(means: Sequence[Tensor]) -> Tensor:
        unseen, both = means
        seen, best = both.unbind(-1)
        gap, room = unseen - seen, unseen - best
        room = torch.where(room > 0, room, torch.nan)  # where new pictures are no harder, there is nothing to gauge
        total_room = (weights * (unseen - best)).sum(-1)
        total = (weights * gap).sum(-1) / torch.where(total_room > 0, total_room, torch.nan)
        return torch.cat([gap / room, total[:, None]], dim=-1)

    weights = weights.double()
    return bootstrap([held_out, torch.stack([training, ideal], dim=-1)], figure, seed)
