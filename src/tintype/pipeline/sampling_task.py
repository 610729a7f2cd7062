"""A sampling task: a request at work, whoever calls the network for it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from torch import Tensor

from tintype.copies.avoid import CopyAvoidance
from tintype.diffusion.samplers import Coroutine, Denoise, Step, drive


@dataclass(frozen=True, eq=False, slots=True)
class SamplingTask:
    """A sampler that has not started, and the denoiser that answers its queries.

    `steps` runs it alone. A server that answers many tasks with one network call sends
    `steered(query.sigma, denoise(*query))` to the coroutine itself.
    """

    coroutine: Coroutine  # yields queries, is sent denoised pictures, returns x0 [B, C, H, W]
    denoise: Denoise
    total: int  # steps
    index: Callable[[], int] | None = None  # step of the open query; None: each query is the next step
    avoidance: CopyAvoidance | None = None  # steers away from training pictures; None: nothing is steered

    @property
    def num_turned(self) -> int:
        """Pictures that were steered away from a training picture so far."""
        return 0 if self.avoidance is None else int(self.avoidance.turned.sum())

    def steered(self, sigma: Tensor, denoised: Tensor) -> Tensor:
        """The answer of `denoise` at noise levels sigma [B], steered away from copies if that was asked for."""
        return denoised if self.avoidance is None else self.avoidance(sigma, denoised)

    def steps(self) -> Generator[Step, None, Tensor]:
        """Run to the end: yields every Step, returns x0 [B, C, H, W]. Closing the generator cancels."""

        def answer(x: Tensor, sigma: Tensor) -> Tensor:
            return self.steered(sigma, self.denoise(x, sigma))

        return (yield from drive(self.coroutine, next(self.coroutine), answer, self.total, self.index))
