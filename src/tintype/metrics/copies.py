"""Copies among samples, measured against the pictures of a cache."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from tintype.copies.alarm import CopyAlarm, calibrate, set_alarm, which_planted
from tintype.copies.index import PictureIndex, thumbnails
from tintype.data.cache.dataset_cache import DatasetCache
from tintype.data.cache.squares import square_blocks, squares
from tintype.diffusion.noise import EvalSubset, Purpose, permutation

MIN_HELD_OUT = 20  # with fewer, the alarm is set on training pictures, each without itself
MAX_CALIBRATED = 1000  # pictures that set the alarm
MAX_SIDE = 64  # pixels of the squares that are compared; descriptors are smaller still


def index_pictures(dataset: DatasetCache, indices: Tensor) -> Generator[int, None, PictureIndex]:
    """The index of some pictures of a cache, in the order of `indices` [N]; yields the number of pictures just read."""
    parts = []
    for block in square_blocks(dataset, indices, _side(dataset)):
        parts.append(thumbnails(block))
        yield len(block)
    return PictureIndex(torch.cat(parts))


def alarm_for(
    dataset: DatasetCache, index: PictureIndex, training: Tensor, held_out: Tensor, seed: int = 0
) -> CopyAlarm:
    """The alarm for copies of the pictures `training` [N], which `index` holds in this order.

    held_out: indices of pictures that set it; with fewer than 20, it is set on training pictures, each without itself.
    At most 1,000 are used.
    """
    side = _side(dataset)
    to_plant = squares(dataset, training[which_planted(len(training), seed)], side)
    if len(held_out) >= MIN_HELD_OUT:
        return calibrate(index, squares(dataset, _some(held_out, seed), side), to_plant, seed)
    own = _some(torch.arange(len(index)), seed)
    pictures = index.thumbnails[own]
    return set_alarm(index, pictures, index.nearest(pictures, own), to_plant, seed)


def typical_distance(dataset: DatasetCache, index: PictureIndex, held_out: Tensor, seed: int = 0) -> float:
    """The median relative distance of the pictures that set `alarm_for`."""
    if len(held_out) >= MIN_HELD_OUT:
        return float(index.nearest(squares(dataset, _some(held_out, seed), _side(dataset))).relative.median())
    own = _some(torch.arange(len(index)), seed)
    return float(index.nearest(index.thumbnails[own], own).relative.median())


def _some(indices: Tensor, seed: int) -> Tensor:
    order = permutation(seed, Purpose.MEASURED, EvalSubset.CALIBRATION, len(indices))
    return indices[order[:MAX_CALIBRATED].sort().values]


def _side(dataset: DatasetCache) -> int:
    return min(MAX_SIDE, max(max(shape) for shape in dataset.shapes))
