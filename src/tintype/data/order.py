"""The order of samples in a run, and their flips, crops and captions: pure functions of (seed, position)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from tintype.diffusion.noise import Purpose, permutation, uniform

WINDOW = 2**14  # the fewest samples that are shuffled together, where blocks are read one after another


def sample_at(seed: int, positions: Tensor, num_samples: int) -> Tensor:
    """The sample, 0 .. num_samples - 1, at each position of a run: every epoch shows each sample once.

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
    """Draw which positions show the picture mirrored: bool [B], half of them."""
    return uniform(seed, Purpose.FLIP, positions, 1)[:, 0] < 0.5


def crop_at(seed: int, positions: Tensor) -> Tensor:
    """Draw the position of a crop, as shares of the margin to the left and above: float64 [B, 2] in (0, 1)."""
    return uniform(seed, Purpose.CROP, positions, 2)


def caption_at(seed: int, positions: Tensor) -> Tensor:
    """Draw which of a picture's captions is shown: int64 [B]; the caller takes it modulo the number of captions."""
    return (uniform(seed, Purpose.CAPTION, positions, 1)[:, 0] * 2**40).to(torch.int64)


def dropped_at(seed: int, positions: Tensor, share: float) -> Tensor:
    """Draw which positions show the empty caption: bool [B], `share` of them."""
    return uniform(seed, Purpose.DROPOUT, positions, 1)[:, 0] < share


class Order:
    """The order of a run: which sample stands at each position, a pure function of (seed, position).

    Args:
        weights: float64 [num_samples], how often each sample is shown relative to the others; None: each epoch shows
            each once. The length of an epoch is the sum of the weights, rounded; in it, a sample of weight w is shown
            w times, rounded up or down by chance.
        blocks: [num_samples] numbers from 0, for samples that lie together, as in one archive. Then the blocks are
            shuffled, and samples among each `window` or more that follow: only a few blocks are read at a time.
    """

    def __init__(
        self,
        seed: int,
        num_samples: int,
        weights: Tensor | None = None,
        blocks: Tensor | None = None,
        window: int = WINDOW,
    ) -> None:
        if num_samples < 1:
            raise ValueError("there must be at least one sample")
        self._seed = seed
        self._num_samples = num_samples
        self._weights = weights
        self._blocks = blocks
        self._window = window
        self.epoch_length = num_samples if weights is None else max(1, round(float(weights.sum())))
        self._epochs: dict[int, Tensor] = {}

    def at(self, positions: Tensor) -> Tensor:
        """The samples at `positions`, int64 [B], counted in images from the start of the run: int64 [B]."""
        if self._weights is None and self._blocks is None:
            return sample_at(self._seed, positions, self._num_samples)
        if positions.numel() and int(positions.min()) < 0:
            raise ValueError("positions are counted from 0")
        epochs = positions // self.epoch_length
        samples = torch.empty_like(positions)
        for epoch in sorted(set(epochs.tolist())):
            here = epochs == epoch
            samples[here] = self._epoch(epoch)[positions[here] % self.epoch_length]
        return samples

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            visits = self._visits(epoch)
            visits = visits[permutation(self._seed, Purpose.ORDER, epoch, len(visits))]
            if self._blocks is not None:
                visits = visits[torch.argsort(self._windows(epoch, self._blocks)[visits], stable=True)]
            self._epochs = {latest: self._epochs[latest] for latest in sorted(self._epochs)[-1:]}  # two at a time
            self._epochs[epoch] = visits
        return self._epochs[epoch]

    def _visits(self, epoch: int) -> Tensor:
        """The samples of an epoch, each as often as it is shown: systematic sampling of shuffled weights."""
        if self._weights is None:
            return torch.arange(self._num_samples)
        shuffled = permutation(self._seed, Purpose.WEIGHT, epoch, self._num_samples)
        offset = uniform(self._seed, Purpose.WEIGHT, epoch, 1)[0, 0].cpu()
        ends = torch.cumsum(self._weights.double()[shuffled], 0)
        ends = torch.floor(ends * (self.epoch_length / ends[-1]) + offset).long()
        ends[-1] = self.epoch_length
        return torch.repeat_interleave(shuffled, torch.diff(ends, prepend=torch.zeros(1, dtype=torch.int64)))

    def _windows(self, epoch: int, blocks: Tensor) -> Tensor:
        """The window of each sample in an epoch: blocks in a random order, cut after `window` samples."""
        sizes = torch.bincount(blocks)
        shuffled = permutation(self._seed, Purpose.BLOCK, epoch, len(sizes))
        starts = torch.cumsum(sizes[shuffled], 0) - sizes[shuffled]
        window_of_block = torch.empty_like(starts)
        window_of_block[shuffled] = starts // self._window
        return window_of_block[blocks]


def shard_positions(positions: Tensor, rank: int, world: int) -> Tensor:
    """The positions of process `rank` of `world`: every world-th, from rank on."""
    if not 0 <= rank < world:
        raise ValueError(f"rank must be from 0 to {world - 1}, not {rank}")
    return positions[rank::world]


def block_numbers(names: Sequence[object]) -> Tensor:
    """Block numbers for `Order`: the names of the samples' archives, numbered by first appearance."""
    numbers: dict[object, int] = {}
    return torch.tensor([numbers.setdefault(name, len(numbers)) for name in names], dtype=torch.int64)
