"""CUDA graphs of the network: a call is recorded once for each size, and replayed with other numbers.

For a few pictures a GPU is faster than the CPU that launches its kernels one by one; a graph launches all of them at
once. Numbers of pictures and lengths of captions are rounded up to a few, and the graphs used last are kept.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tintype.diffusion.parameterization import Denoise
from tintype.errors import TintypeWarning, is_out_of_memory
from tintype.model.denoiser import Denoiser
from tintype.model.nets.conditioning import CaptionKV, Conditioning

BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # pictures; more of them keep a GPU busy without graphs
LENGTH = 16  # captions are padded to multiples of so many tokens
MAX_GRAPHS = 12
_WARM_UP_CALLS = 3  # kernels are chosen and memory is reserved before anything is recorded

Replay = Callable[[], Tensor]  # computes again from the tensors that were recorded, into the same output
Record = Callable[[Callable[[], Tensor]], Replay]


class GraphedNetwork:
    """Calls a denoiser by graphs. Its answers are those of the denoiser, up to the rounding of other batch sizes.

    Weights may change in place; when they move, everything is recorded again. Where recording fails, as with a network
    that waits for the GPU, it warns once and calls the denoiser itself from then on.

    Args:
        record: makes a graph of a function; by default a CUDA graph.
    """

    def __init__(self, denoiser: Denoiser, record: Record | None = None, max_graphs: int = MAX_GRAPHS) -> None:
        self._denoiser = denoiser
        self._record = record or CudaRecorder()
        self._max_graphs = max_graphs
        self._graphs: OrderedDict[tuple[object, ...], _Graph] = OrderedDict()
        self._places: list[int] = []  # of the weights, in memory
        self._fails = False
        self._lock = threading.Lock()  # the tensors of a graph belong to one call at a time

    @property
    def num_graphs(self) -> int:
        """The number of graphs that are kept."""
        return len(self._graphs)

    def conditioned(self, cond: Conditioning) -> Denoise:
        """As `Denoiser.conditioned`."""
        text = self._denoiser.caption_kv(cond)
        return lambda x, sigma: self.denoise(x, sigma, text)

    def denoise(self, x: Tensor, sigma: Tensor, text: CaptionKV) -> Tensor:
        """As `Denoiser.denoise`, without gradients."""
        num = next((size for size in BATCHES if size >= len(x)), 0)
        if not num or self._fails or torch.is_grad_enabled():
            return self._denoiser.denoise(x, sigma, text)
        length = -(-text.mask.shape[1] // LENGTH) * LENGTH
        size = (num, length, *x.shape[1:], x.dtype)
        with self._lock:
            graph = self._graph(size)
            if graph is not None:
                return graph(x, sigma, text)
            try:
                graph = _Graph(self._denoiser, self._record, num, length, x, sigma, text)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                self._fails = True
                self._graphs.clear()
                reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
                warnings.warn(f"the network is called without CUDA graphs ({reason})", TintypeWarning, stacklevel=2)
                return self._denoiser.denoise(x, sigma, text)
            self._graphs[size] = graph
            while len(self._graphs) > self._max_graphs:
                self._graphs.popitem(last=False)
            return graph(x, sigma, text)

    def _graph(self, size: tuple[object, ...]) -> _Graph | None:
        """The graph of a size, now the one used last; none if the weights are elsewhere than when it was recorded."""
        places = [weight.data_ptr() for weight in self._denoiser.parameters()]
        if places != self._places:
            self._graphs.clear()
            self._places = places
        if size in self._graphs:
            self._graphs.move_to_end(size)
        return self._graphs.get(size)


class _Graph:
    """A recorded call with its own input tensors; rows beyond those of a call keep what they had."""

    def __init__(
        self, denoiser: Denoiser, record: Record, num: int, length: int, x: Tensor, sigma: Tensor, text: CaptionKV
    ) -> None:
        self._x = x.new_zeros(num, *x.shape[1:])
        self._sigma = sigma.new_ones(num)
        self._text = CaptionKV(
            tuple(_room(key, num, length) for key in text.keys),
            tuple(_room(value, num, length) for value in text.values),
            _room(text.mask, num, length),
            text.pooled_text.new_zeros(num, text.pooled_text.shape[1]),
        )
        self._text.mask[:, 0] = True  # attention to nothing at all would be no number
        self._source: CaptionKV | None = None
        self._fill(x, sigma, text)
        self._replay = record(lambda: denoiser.denoise(self._x, self._sigma, self._text))

    def __call__(self, x: Tensor, sigma: Tensor, text: CaptionKV) -> Tensor:
        self._fill(x, sigma, text)
        return self._replay()[: len(x)].clone()  # the next call writes over it

    def _fill(self, x: Tensor, sigma: Tensor, text: CaptionKV) -> None:
        num = len(x)
        self._x[:num].copy_(x)
        self._sigma[:num].copy_(sigma)
        if text is self._source:  # the same captions as before: at every step but the first
            return
        padding = self._text.mask.shape[1] - text.mask.shape[1]
        for room, part in zip((*self._text.keys, *self._text.values), (*text.keys, *text.values), strict=True):
            room[:num].copy_(F.pad(part, (0, 0, 0, 0, 0, padding)))
        self._text.mask[:num].copy_(F.pad(text.mask, (0, padding)))
        self._text.pooled_text[:num].copy_(text.pooled_text)
        self._source = text


class CudaRecorder:
    """Records CUDA graphs, all in one pool of memory: their outputs are copied before another one is replayed."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, function: Callable[[], Tensor]) -> Replay:
        here = torch.cuda.current_stream()
        beside: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP_CALLS):
                function()
        here.wait_stream(beside)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on with the GPU, to encode pictures.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            output = function()

        def replay() -> Tensor:
            graph.replay()
            return output

        return replay


def _room(part: Tensor, num: int, length: int) -> Tensor:
    """Zeros like a part of captions [B, L, ...], for `num` captions of `length` tokens."""
    return part.new_zeros(num, length, *part.shape[2:])
