"""The batcher: network calls of the measured batch size, halved and repeated when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from tintype.errors import is_out_of_memory
from tintype.pipeline.pipeline import Pipeline
from tintype.serving.engine.autobatch import measure_batch_size
from tintype.serving.engine.network_batch import DenoiseCall, NetworkBatch

Size = tuple[int, int]  # width and height, pixels


class Batcher:
    """Runs the network calls of several requests together.

    Args:
        max_batch: pictures of a model's own resolution in one network call; None measures it.
    """

    def __init__(self, max_batch: int | None) -> None:
        self._max_batch = max_batch
        self._batches: WeakKeyDictionary[Pipeline, NetworkBatch] = WeakKeyDictionary()
        self._pixel_limits: dict[object, int] = {}  # by network configuration

    def pixel_limit(self, pipeline: Pipeline) -> int:
        """Pixels in one network call. Measured once for each network configuration, which also warms it up."""
        net = pipeline.config.net
        if net not in self._pixel_limits:
            num = self._max_batch or measure_batch_size(pipeline)
            pipeline.encode(["", "warm"])
            self._pixel_limits[net] = num * net.resolution**2
        return self._pixel_limits[net]

    def denoise(
        self, pipeline: Pipeline, size: Size, requests: Sequence[Sequence[DenoiseCall]]
    ) -> list[list[Tensor] | Exception]:
        """For each request the results of its calls, all of one picture size, or the error that prevented them.

        An error of the batch is retried request by request, so that only the request at fault fails.
        """
        batch = self._batches.setdefault(pipeline, NetworkBatch(pipeline.network))
        try:
            flat = [call for calls in requests for call in calls]
            results = iter(batch.denoise(flat, self._batch_size(pipeline, size)))
            return [[next(results) for _ in calls] for calls in requests]
        except Exception as error:
            batch.clear()
            if is_out_of_memory(error):
                self._halve(pipeline)
        return list(self._one_request_at_a_time(batch, self._batch_size(pipeline, size), requests))

    def _one_request_at_a_time(
        self, batch: NetworkBatch, limit: int, requests: Sequence[Sequence[DenoiseCall]]
    ) -> Iterator[list[Tensor] | Exception]:
        for calls in requests:
            try:
                yield batch.denoise(calls, limit)
            except Exception as error:
                yield error
            finally:
                batch.clear()

    def _batch_size(self, pipeline: Pipeline, size: Size) -> int:
        """Pictures of a size in one network call."""
        return max(1, self.pixel_limit(pipeline) // (size[0] * size[1]))

    def _halve(self, pipeline: Pipeline) -> None:
        self._pixel_limits[pipeline.config.net] = max(1, self.pixel_limit(pipeline) // 2)
        if pipeline.device.type == "cuda":
            torch.cuda.empty_cache()
