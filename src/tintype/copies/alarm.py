"""An alarm for copies: how near a picture must be to a training picture to count as its copy.

Two sets of pictures set the limit: held-out ones, which cannot be copies, and planted ones, which are copies. A picture
is a copy if it is nearer than all but 1 % of the held-out pictures, and nearer than 95 % of the planted copies. So the
share of held-out pictures that raise the alarm is at most 1 %, and none do where the two sets do not meet.

A held-out picture may have a twin among the training pictures: the same picture in a second file, perhaps mirrored.
Twins would draw the limit to 0 and are left out. They are told by their pixels, colors included, so that a picture that
is only alike stays.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tintype.copies.index import Nearest, PictureIndex
from tintype.copies.planted import planted
from tintype.diffusion.noise import EvalSubset, Purpose, permutation

FALSE_ALARM_RATE = 0.01  # share of held-out pictures without a twin that may raise the alarm
REACH = 0.95  # share of the planted copies that the limit need not exceed
TWIN_LEVELS = 6.0  # of 255, root mean square of 16 x 16 pixels, by which a twin may differ
NUM_PLANTED = 120  # copies that are planted, a multiple of the kinds of changes


class CopyAlarm(NamedTuple):
    """The relative distance at or below which a picture is a copy, and what is known of it."""

    limit: float  # negative: never raised
    rate: float  # share of the held-out pictures without a twin that raise it
    num: int  # of these pictures
    num_twins: int  # held-out pictures with a twin among the training pictures
    found: float  # share of the planted copies that raise it
    num_planted: int

    def raised(self, nearest: Nearest) -> Tensor:
        """Which of Q pictures are copies: bool [Q]."""
        return nearest.relative <= self.limit


def calibrate(index: PictureIndex, held_out: Tensor, training: Tensor, seed: int = 0) -> CopyAlarm:
    """Set the alarm from pictures uint8 [n, 3, H, W] that cannot be copies, and from training pictures.

    training: uint8 [n, 3, H, W], some of the indexed pictures, of which copies are planted.
    """
    return set_alarm(index, held_out, index.nearest(held_out), training, seed)


def set_alarm(index: PictureIndex, held_out: Tensor, nearest: Nearest, training: Tensor, seed: int = 0) -> CopyAlarm:
    """As `calibrate`, with what is already known to be `nearest` to the held-out pictures."""
    copies = index.nearest(planted(training, seed)).relative
    is_twin = index.levels_apart(held_out, nearest.indices) <= TWIN_LEVELS
    return _alarm(nearest.relative[~is_twin], copies, int(is_twin.sum()))


def _alarm(held_out: Tensor, copies: Tensor, num_twins: int) -> CopyAlarm:
    """The alarm from relative distances of held-out pictures without a twin and of planted copies.

    The rank of the limit among held-out pictures is that of a conformal test (Vovk et al. 2005): as high as the rate
    permits. With fewer than 99 of them the limit lies below all.
    """
    num = len(held_out)
    ordered = held_out.double().sort().values
    allowed = int(FALSE_ALARM_RATE * (num + 1))
    limit = -1.0
    if num:
        nearest = float(ordered[max(0, allowed - 1)])
        limit = nearest if allowed else float(torch.nextafter(ordered[0], ordered[0] - 1))
    limit = min(limit, _quantile(copies, REACH))
    rate = float((held_out.double() <= limit).double().mean()) if num else 0.0
    found = float((copies.double() <= limit).double().mean()) if len(copies) else 0.0
    return CopyAlarm(limit, rate, num, num_twins, found, len(copies))


def _quantile(values: Tensor, share: float) -> float:
    """The smallest of the values that a share of them does not exceed; -1 of none."""
    if not len(values):
        return -1.0
    rank = min(len(values) - 1, max(0, round(share * len(values)) - 1))
    return float(values.double().sort().values[rank])


def which_planted(num: int, seed: int) -> Tensor:
    """Indices, ascending, of the training pictures of which copies are planted, out of `num`."""
    return permutation(seed, Purpose.MEASURED, EvalSubset.PLANTED, num)[:NUM_PLANTED].sort().values


def count_copies(samples: Tensor, index: PictureIndex, alarm: CopyAlarm) -> int:
    """How many of the pictures uint8 [Q, 3, H, W], of any size, are copies."""
    return int(alarm.raised(index.nearest(samples)).sum())
