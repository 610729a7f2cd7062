"""What is shown at which position of a run: samples, captions, dropped captions, parted by shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from tintype.config import TrainConfig
from tintype.data.cache.stream import ReadAhead
from tintype.data.order import Order, caption_at, dropped_at
from tintype.training.core.objective import ShapeBatch


class Samples(Protocol):
    """What the trainer needs of a `data.pack.Pack` or `data.stream.Stream`."""

    def order(self, seed: int, indices: Tensor) -> Order: ...

    def by_shape(self, indices: Tensor) -> list[Tensor]: ...

    def pictures(self, indices: Tensor) -> Tensor: ...

    def text_embeddings(self, indices: Tensor, choice: Tensor) -> list[Tensor]: ...

    def split(self, share: float) -> tuple[Tensor, Tensor]: ...


class Reader:
    """Reads what is shown at positions of a run: a pure function of seed and position.

    Args:
        shown: indices of the samples to train on.
        ahead: batches that are read while others are computed.
    """

    def __init__(self, samples: Samples, shown: Tensor, config: TrainConfig, ahead: int) -> None:
        self._samples = samples
        self._shown = shown
        self._config = config
        self._order = samples.order(config.seed, shown)
        self._read: Callable[[Tensor, int | None], list[ShapeBatch]] = ReadAhead(self.parts, ahead)

    def __call__(self, positions: Tensor, step: int) -> list[ShapeBatch]:
        """`parts` of `positions` [B]; those of the next batch will be asked for `step` further on."""
        return self._read(positions, step)

    def at(self, positions: Tensor) -> Tensor:
        """The samples at `positions` [B]: indices int64 [B]."""
        return self._shown[self._order.at(positions)]

    def parts(self, positions: Tensor) -> list[ShapeBatch]:
        """Read what is shown at `positions` [B], parted by shape."""
        indices = self.at(positions)
        choice = caption_at(self._config.seed, positions)
        dropped = dropped_at(self._config.seed, positions, self._config.caption_dropout)
        parts = []
        for places in self._samples.by_shape(indices):
            embeddings = self._samples.text_embeddings(indices[places], choice[places])
            kept = [
                embedding[:0] if drop else embedding
                for embedding, drop in zip(embeddings, dropped[places], strict=True)
            ]
            parts.append(ShapeBatch(positions[places], self._samples.pictures(indices[places]), kept))
        return parts


def shuffled(indices: Tensor) -> Tensor:
    """The indices [B] moved on by one, so that each picture gets the caption of another."""
    return torch.roll(indices, 1)
