"""Which sample stands at which position of a run, and what is done to it: pure functions of (seed, position)."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch
from torch import Tensor

from tintype.diffusion.noise import Purpose, permutation, uniform


def sample_at(seed: int, positions: Tensor, num_samples: int) -> Tensor:
    """Give the sample, 0 .. num_samples - 1, at each position of a run: every epoch shows each sample once.

    positions: int64 [B], counted in images from the start of the run. Returns int64 [B].
    Raises ValueError for num_samples < 1 or a negative position.
    """
    if num_samples < 1:
        raise ValueError("there must be at least one sample")
    positions = positions.to(device="cpu", dtype=torch.int64)
    if positions.numel() and int(positions.min()) < 0:
        raise ValueError("positions are counted from 0")
    epochs = positions // num_samples
    samples = torch.empty_like(positions)
    for epoch in sorted(set(epochs.tolist())):
        here = epochs == epoch
        samples[here] = _epoch(seed, epoch, num_samples)[positions[here] % num_samples]
    return samples


@lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, num_samples: int) -> Tensor:
    return permutation(seed, Purpose.ORDER, epoch, num_samples).cpu()


def flip_at(seed: int, positions: Tensor) -> Tensor:
    """Say which positions show the picture mirrored: bool [B], half of them."""
    return uniform(seed, Purpose.FLIP, positions, 1)[:, 0] < 0.5


def crop_at(seed: int, positions: Tensor) -> Tensor:
    """Draw where a crop lies, as shares of the room to the left and above: float64 [B, 2] in (0, 1)."""
    return uniform(seed, Purpose.CROP, positions, 2)


def caption_at(seed: int, positions: Tensor) -> Tensor:
    """Draw which of a picture's captions is shown: int64 [B], to be taken modulo their number."""
    return (uniform(seed, Purpose.CAPTION, positions, 1)[:, 0] * 2**40).to(torch.int64)


def dropped_at(seed: int, positions: Tensor, share: float) -> Tensor:
    """Say which positions show the empty caption: bool [B], `share` of them."""
    return uniform(seed, Purpose.DROPOUT, positions, 1)[:, 0] < share


def is_held_out(name: str, share: float) -> bool:
    """Say whether a picture is held out of training, from its name alone, so that others joining do not change it."""
    return name_hash(name) < share


def name_hash(name: str) -> float:
    """Map a name to a number in [0, 1), evenly and for ever the same."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
