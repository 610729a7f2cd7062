"""Calls of the networks: as large as was measured to be worth it, halved when memory runs out, and tried again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from tintype.pipeline.pipeline import Pipeline
from tintype.serving.engine.autobatch import measured
from tintype.serving.engine.network_batch import Batch, Question
from tintype.training.core.device import is_out_of_memory

Size = tuple[int, int]  # width and height, pixels


class Answerer:
    """Answers the questions of several requests together.

    Args:
        max_batch: pictures of a model's own size to show it in one call; None measures it.
    """

    def __init__(self, max_batch: int | None) -> None:
        self._max_batch = max_batch
        self._batches: WeakKeyDictionary[Pipeline, Batch] = WeakKeyDictionary()
        self._limits: dict[object, int] = {}  # of a network: pixels in one call

    def limit(self, pipeline: Pipeline) -> int:
        """Pixels to show a network in one call: measured once for each shape of network, which also warms it up."""
        net = pipeline.config.net
        if net not in self._limits:
            num = self._max_batch or measured(pipeline)
            pipeline.encode(["", "warm"])
            self._limits[net] = num * net.resolution**2
        return self._limits[net]

    def answer(
        self, pipeline: Pipeline, size: Size, asked: Sequence[Sequence[Question]]
    ) -> list[list[Tensor] | Exception]:
        """For each request the network's answers to its questions, all of one size, or why there are none.

        What goes wrong for all is tried again request by request, so that only the one at fault fails.
        """
        batch = self._batches.setdefault(pipeline, Batch(pipeline.denoiser))
        try:
            flat = iter(batch.answer([q for questions in asked for q in questions], self._rows(pipeline, size)))
            return [[next(flat) for _ in questions] for questions in asked]
        except Exception as error:
            batch.forget()
            if is_out_of_memory(error):
                self._halve(pipeline)
        return list(self._one_by_one(batch, self._rows(pipeline, size), asked))

    def _one_by_one(
        self, batch: Batch, rows: int, asked: Sequence[Sequence[Question]]
    ) -> Iterator[list[Tensor] | Exception]:
        for questions in asked:
            try:
                yield batch.answer(questions, rows)
            except Exception as error:
                yield error
            finally:
                batch.forget()

    def _rows(self, pipeline: Pipeline, size: Size) -> int:
        """How many pictures of a size to show the network in one call."""
        return max(1, self.limit(pipeline) // (size[0] * size[1]))

    def _halve(self, pipeline: Pipeline) -> None:
        self._limits[pipeline.config.net] = max(1, self.limit(pipeline) // 2)
        if pipeline.device.type == "cuda":
            torch.cuda.empty_cache()
