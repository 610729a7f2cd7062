"""Streaming: training without a cache, on pictures decoded shortly before each step."""

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
MAX_REPLACED = 100  # samples tried in place of an unreadable one


class Stream(DatasetIndex):
    """The samples of a catalog, read from their sources.

    The next readable picture of the same shape replaces a picture that has become unreadable since the catalog was
    built; `num_replaced` counts such pictures, `unreadable` names them.
    """

    def __init__(
        self,
        folder: Path,
        pairs: Sequence[Pair],
        preprocess: Preprocess,
        encoder: CaptionEncoder,
        problems: Sequence[Problem] = (),
    ) -> None:
        """Open the catalog in `folder`, built from `pairs` with the same `preprocess`. Raises DataError if damaged."""
        super().__init__(folder, problems)
        sources = {pair.key: pair.source for pair in pairs}
        self._sources = [sources[key] for key in self.keys]
        self._preprocess = preprocess
        self._encoder = encoder
        self._encoding = threading.Lock()  # a tokenizer serves one thread at a time
        self.num_replaced = 0

    def order(self, seed: int, indices: Tensor) -> Order:
        """The order of a run: samples of one archive come close together, so that few archives are open at a time."""
        weights = None if self.weights is None else self.weights[indices]
        sources = [self._sources[index] for index in indices.tolist()]
        blocks = block_numbers([source.archive_path for source in sources])
        return Order(seed, len(indices), weights, blocks if int(blocks.max()) else None)

    def pictures(self, indices: Tensor) -> Tensor:
        """Decode pictures of one shape by indices [B]: uint8 [B, 3, H, W]. Raises DataError if none is readable."""
        return torch.stack([self._picture(index) for index in indices.tolist()])

    def text_embeddings(self, indices: Tensor, choice: Tensor) -> list[Tensor]:
        """Encode captions: for each picture in `indices` [B], caption `choice` [B], modulo their number."""
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
            examined = examine(self._sources[other], self._preprocess)
            if examined.pixels is not None and examined.shape == shape:
                self.num_replaced += step > 0
                return torch.from_numpy(examined.pixels)
            self.unreadable[self.keys[other]] = None
        raise DataError(
            f"{printable(self.keys[index])} and the pictures after it can no longer be read: {examined.reason}"
        )


class ReadAhead(Generic[R]):
    """Calls `read` for a batch of positions, and for the next batches ahead of time in threads.

    Args:
        workers: number of batches read ahead, each in its own thread; 0 reads each batch when it is needed.
    """

    def __init__(self, read: Callable[[Tensor], R], workers: int) -> None:
        self._read = read
        self._workers = workers
        self._ready: dict[tuple[int, ...], Future[R]] = {}
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="tintype-ahead") if workers else None

    def forget(self) -> None:
        """Drop what was read ahead, because `read` gives other results from now on."""
        self._ready = {}

    def __call__(self, positions: Tensor, step: int | None = None) -> R:
        """The result of `read` for `positions` [B], ascending; `step` is the distance to the next batch (None: B)."""
        if self._executor is None:
            return self._read(positions)
        step = len(positions) if step is None else step
        batches = [positions + number * step for number in range(self._workers + 1)]
        keys = [tuple(batch.tolist()) for batch in batches]
        self._ready = {key: future for key, future in self._ready.items() if key in keys}
        for key, batch in zip(keys, batches, strict=True):
            if key not in self._ready:
                self._ready[key] = self._executor.submit(self._read, batch)
        return self._ready.pop(keys[0]).result()
