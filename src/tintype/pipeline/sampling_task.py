"""A sampling task: a request at work, whoever calls the network for it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from torch import Tensor

from tintype.diffusion.samplers import Coroutine, Denoise, Step, drive


@dataclass(frozen=True, eq=False, slots=True)
class SamplingTask:
    """A sampler that has not started, and the denoiser that answers its queries.

    `steps` runs it alone. A server that answers many tasks with one network call sends `denoise(*query)` to the
    coroutine itself.
    """

    coroutine: Coroutine  # yields queries, is sent denoised pictures, returns x0 [B, C, H, W]
    denoise: Denoise
    total: int  # steps
    index: Callable[[], int] | None = None  # step of the open query; None: each query is the next step

    def steps(self) -> Generator[Step, None, Tensor]:
        """Run to the end: yields every Step, returns x0 [B, C, H, W]. Closing the generator cancels."""
        return (yield from drive(self.coroutine, next(self.coroutine), self.denoise, self.total, self.index))
