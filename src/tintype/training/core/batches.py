"""Batches: the samples, captions and dropped captions at positions of a run, grouped by shape."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from tintype.config import TrainConfig
from tintype.data.cache.stream import ReadAhead
from tintype.data.order import Order, caption_at, dropped_at
from tintype.training.core.augment import augmented, labels_at
from tintype.training.core.half_size import SIGMA, half_size_at, halved
from tintype.training.core.objective import ShapeBatch


class Samples(Protocol):
    """The methods of a `DatasetCache` or `Stream` that the trainer uses."""

    def order(self, seed: int, indices: Tensor) -> Order: ...

    def by_shape(self, indices: Tensor) -> list[Tensor]: ...

    def pictures(self, indices: Tensor) -> Tensor: ...

    def text_embeddings(self, indices: Tensor, choice: Tensor) -> list[Tensor]: ...

    def split(self, share: float) -> tuple[Tensor, Tensor]: ...

    def mirrorable(self, indices: Tensor) -> Tensor: ...


class Reader:
    """Reads the samples at positions of a run: a pure function of seed and position.

    Args:
        training: indices of the samples to train on.
        ahead: batches read in advance.
        multiple: of which the sides of pictures at half the size are multiples.
    """

    def __init__(self, samples: Samples, training: Tensor, config: TrainConfig, ahead: int, multiple: int = 1) -> None:
        self._samples = samples
        self._training = training
        self._config = config
        self._multiple = multiple
        self._order = samples.order(config.seed, training)
        self._read = ReadAhead(self.batches, ahead)

    def __call__(self, positions: Tensor, step: int) -> list[ShapeBatch]:
        """`batches` at `positions` [B]; the next call is expected to be for positions + `step`."""
        return self._read(positions, step)

    def set_config(self, config: TrainConfig) -> None:
        """Read as a run of this length does."""
        self._config = config
        self._read.forget()

    def at(self, positions: Tensor) -> Tensor:
        """The indices int64 [B] of the samples at `positions` [B]."""
        return self._training[self._order.at(positions)]

    def batches(self, positions: Tensor) -> list[ShapeBatch]:
        """Read the samples at `positions` [B], one batch for each shape, and one for its samples of half the size."""
        indices = self.at(positions)
        choice = caption_at(self._config.seed, positions)
        dropped = dropped_at(self._config.seed, positions, self._config.caption_dropout)
        is_half = half_size_at(self._config, positions)
        batches = []
        for shape in self._samples.by_shape(indices):
            for rows in (shape[~is_half[shape]], shape[is_half[shape]]):
                if not len(rows):
                    continue
                embeddings = self._samples.text_embeddings(indices[rows], choice[rows])
                kept = [
                    embedding[:0] if drop else embedding
                    for embedding, drop in zip(embeddings, dropped[rows], strict=True)
                ]
                batch = ShapeBatch(positions[rows], self._samples.pictures(indices[rows]), kept)
                batch = self._augmented(batch, indices[rows]) if self._config.augment else batch
                batches.append(self._halved(batch) if is_half[rows[0]] else batch)
        return batches

    def _augmented(self, batch: ShapeBatch, indices: Tensor) -> ShapeBatch:
        labels = labels_at(self._config, batch.positions, self._samples.mirrorable(indices))
        return batch._replace(pictures=augmented(batch.pictures, labels), labels=labels)

    def _halved(self, batch: ShapeBatch) -> ShapeBatch:
        return batch._replace(pictures=halved(batch.pictures, self._multiple), sigma_factor=SIGMA)


def shuffled(indices: Tensor) -> Tensor:
    """The indices [B] moved on by one, so that each picture gets the caption of another."""
    return torch.roll(indices, 1)
