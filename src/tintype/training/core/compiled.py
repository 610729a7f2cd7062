"""Compiled training: the errors of a batch, text layers and network together, as graphs of `torch.compile`.

A graph belongs to one size of pictures and one length of captions. Captions are padded to a few lengths, the number of
pictures is free where pictures have several sizes, and sizes that come after MAX_GRAPHS graphs are computed without
the compiler: so their number is bounded, whatever the data.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from tintype.errors import ConfigError
from tintype.model.denoiser import Denoiser
from tintype.model.nets.dit import Block, Convolutions, Positions
from tintype.model.nets.text import TextBlock

Backend = str | Callable[..., Any]
COMPILER = "inductor"  # the backend of torch.compile
MAX_GRAPHS = 8
PARTS = (Block, Convolutions, TextBlock)  # of a network, compiled one by one where it is sharded
LENGTHS = (15, 31)  # of captions, tokens: with the null token multiples of 8, as attention wants its keys
_RECOMPILES = 64  # of one function, which PyTorch allows only 8 of


class Batch(NamedTuple):
    """The tensors that the errors of samples of one shape are computed from."""

    x: Tensor  # noisy pictures [B, C, H, W]
    target: Tensor  # [B, C, H, W]
    sigma: Tensor  # [B]
    weight: Tensor  # [B] in the loss
    text: Tensor  # padded text embeddings or token ids [B, L, ...]
    mask: Tensor  # [B, L] bool, True where there is a token
    labels: Tensor | None = None  # [B, K] how the pictures were changed
    kept: Tensor | None = None  # [B, F] factors of dropout
    text_rope: Tensor | None = None  # positions of the tokens and of the picture, each made once
    positions: Positions | None = None

    def samples(self) -> dict[str, Tensor]:
        """The tensors with one row for each sample."""
        rows = (*self._fields[:6], "labels", "kept")
        return {name: part for name in rows if (part := getattr(self, name)) is not None}

    def doubled(self) -> Batch:
        """Every sample twice."""
        twice = {name: torch.cat([part, part]) for name, part in self.samples().items()}
        return self._replace(**twice)  # type: ignore[arg-type]


class CompiledErrors:
    """`errors` compiled: one graph for each size, and all others without the compiler.

    Args:
        errors: a `Batch` -> the weighted error of each sample [B].
        fixed_batch: whether most batches have the same number of pictures; otherwise graphs hold for any number.
        backend: of `torch.compile`.
    """

    def __init__(
        self,
        errors: Callable[[Batch], Tensor],
        *,
        fixed_batch: bool,
        backend: Backend = COMPILER,
        max_graphs: int = MAX_GRAPHS,
    ) -> None:
        self._errors = errors
        self._compiled = torch.compile(errors, fullgraph=True, backend=backend)
        self._fixed_batch = fixed_batch
        self._max_graphs = max_graphs
        self._sizes: set[tuple[int, ...]] = set()

    @property
    def num_graphs(self) -> int:
        """The number of graphs so far."""
        return len(self._sizes)

    def __call__(self, batch: Batch) -> Tensor:
        """The errors [B]."""
        num = len(batch.x)
        size = (num if self._fixed_batch else 0, batch.mask.shape[1], *batch.x.shape[-2:])
        if size not in self._sizes and len(self._sizes) == self._max_graphs:
            return self._errors(batch)
        self._sizes.add(size)
        if not self._fixed_batch:
            if num == 1:  # a graph for any number of pictures is none for one
                batch = batch.doubled()
            _mark(batch)
        with many_graphs():
            return self._compiled(batch)[:num]


def compile_parts(denoiser: Denoiser, *, fixed_sizes: bool, backend: Backend = COMPILER) -> None:
    """Compile the parts of a denoiser that compute most, each by itself, before it is sharded.

    Between them the shards of weights are gathered, which no graph can do. fixed_sizes: whether all pictures have one
    size; otherwise graphs hold for any.
    """
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _RECOMPILES)
    for part in denoiser.modules():
        if isinstance(part, PARTS):
            part.compile(fullgraph=True, dynamic=None if fixed_sizes else True, backend=backend)


def padded_length(longest: int, max_tokens: int) -> int:
    """The length to pad captions to whose longest has `longest` tokens, of at most `max_tokens`."""
    last = -(-(max_tokens + 1) // 8) * 8 - 1
    return next((length for length in LENGTHS if longest <= length <= last), max(longest, last))


@contextmanager
def compiler_errors() -> Iterator[None]:
    """A `with` block for a training step: raises ConfigError where the compiler fails, on the way back too."""
    try:
        yield
    except RuntimeError as error:
        if "torch._dynamo" not in sys.modules:  # nothing was compiled
            raise
        from torch._dynamo.exc import TorchDynamoException

        if not isinstance(error, TorchDynamoException):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"the network cannot be compiled here ({reason}); train with --compile off") from None


def many_graphs() -> AbstractContextManager[None]:
    """A `with` block in which one function may have as many graphs as there are sizes."""
    import torch._dynamo

    return cast("AbstractContextManager[None]", torch._dynamo.config.patch(recompile_limit=_RECOMPILES))


def _mark(batch: Batch) -> None:
    """The number of pictures is free, all else is fixed."""
    import torch._dynamo

    for part in batch.samples().values():
        torch._dynamo.mark_dynamic(part, 0)
        for dim in range(1, part.ndim):
            torch._dynamo.mark_static(part, dim)
    for fixed in (batch.text_rope, *(batch.positions or ())):
        if fixed is not None:
            torch._dynamo.mark_static(fixed)
