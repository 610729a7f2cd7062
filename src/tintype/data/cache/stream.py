"""Train without a cache: pictures are decoded whenever they are shown, a little ahead of being asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from tintype.data.cache.builder import CaptionEncoder
from tintype.data.cache.index import DatasetIndex
from tintype.data.images.decode import Preprocess, examine
from tintype.data.order import Order, block_numbers
from tintype.data.sources.pairs import Pair, Problem
from tintype.errors import DataError
from tintype.printable import printable

R = TypeVar("R")
MAX_REPLACED = 100  # samples in a row that a lost one may be replaced by


class Stream(DatasetIndex):
    """The samples of a catalog, read from where they lie.

    A picture that has become unreadable since the catalog was made is replaced by the next of its shape that can be
    read, counted in `num_replaced`, and named in `unreadable`.
    """

    def __init__(
        self,
        folder: Path,
        pairs: Sequence[Pair],
        preprocess: Preprocess,
        encoder: CaptionEncoder,
        problems: Sequence[Problem] = (),
    ) -> None:
        """Open the catalog in `folder`, made of `pairs` by the same `preprocess`. Raises DataError if it is damaged."""
        super().__init__(folder, problems)
        sources = {pair.key: pair.source for pair in pairs}
        self._sources = [sources[key] for key in self.keys]
        self._preprocess = preprocess
        self._encoder = encoder
        self._encoding = threading.Lock()  # tokenizers may not be used by two threads at once
        self.num_replaced = 0

    def order(self, seed: int, indices: Tensor) -> Order:
        """The order of a run: samples of one archive are shown near each other, so that few are read at a time."""
        weights = None if self.weights is None else self.weights[indices]
        sources = [self._sources[index] for index in indices.tolist()]
        blocks = block_numbers([source.archive_path for source in sources])
        return Order(seed, len(indices), weights, blocks if int(blocks.max()) else None)

    def pictures(self, indices: Tensor) -> Tensor:
        """Decode pictures of one shape by their indices [B]: uint8 [B, 3, H, W]. Raises DataError if all are gone."""
        return torch.stack([self._picture(index) for index in indices.tolist()])

    def text_embeddings(self, indices: Tensor, choice: Tensor) -> list[Tensor]:
        """Encode captions: for each picture in `indices` [B], its caption number `choice` [B], modulo their number."""
        captions = [
            self.unique[choices[number % len(choices)]]
            for index, number in zip(indices.tolist(), choice.tolist(), strict=True)
            for choices in (self.choices[index],)
        ]
        with self._encoding:
            return self._encoder.text_embeddings(captions)

    def _picture(self, index: int) -> Tensor:
        shape = self.shapes[self.shape_of[index]]
        for step in range(MAX_REPLACED):
            other = (index + step) % self.num_samples
            if self.shape_of[other] != self.shape_of[index]:
                continue
            seen = examine(self._sources[other], self._preprocess)
            if seen.pixels is not None and seen.shape == shape:
                self.num_replaced += step > 0
                return torch.from_numpy(seen.pixels)
            self.unreadable[self.keys[other]] = None
        raise DataError(f"{printable(self.keys[index])} and the pictures after it can no longer be read: {seen.reason}")


class ReadAhead(Generic[R]):
    """Calls `read` with positions, and meanwhile with those of the next batches, in threads: the same answers, sooner.

    Args:
        workers: batches that are read ahead, each by a thread of its own; 0 reads when asked.
    """

    def __init__(self, read: Callable[[Tensor], R], workers: int) -> None:
        self._read = read
        self._workers = workers
        self._ready: dict[tuple[int, ...], Future[R]] = {}
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="tintype-ahead") if workers else None

    def __call__(self, positions: Tensor, step: int | None = None) -> R:
        """What `read` gives for `positions` [B], ascending; `step` is how far the next batch lies behind (B)."""
        if self._executor is None:
            return self._read(positions)
        step = len(positions) if step is None else step
        asked = [positions + number * step for number in range(self._workers + 1)]
        keys = [tuple(batch.tolist()) for batch in asked]
        self._ready = {key: future for key, future in self._ready.items() if key in keys}
        for key, batch in zip(keys, asked, strict=True):
            if key not in self._ready:
                self._ready[key] = self._executor.submit(self._read, batch)
        return self._ready.pop(keys[0]).result()
