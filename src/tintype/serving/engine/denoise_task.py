"""One prediction for *How it works*: noisy pictures as numbers in, denoised ones out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tintype.diffusion.samplers import Coroutine, Query
from tintype.pipeline.pipeline import ConditionalDenoiser, Pipeline
from tintype.pipeline.sampling_task import SamplingTask
from tintype.serving.settings import cost_of


@dataclass(frozen=True, slots=True)
class DenoiseTask:
    """Denoise pictures once, at one noise level, without guidance. Returns [B, C, h, w]."""

    pipeline: Pipeline
    x: Tensor  # noisy pictures in model space, [1, C, h, w] for all captions or [B, C, h, w], on the CPU
    sigma: float
    captions: list[str]  # B

    @property
    def size(self) -> tuple[int, int]:
        height, width = (side * self.pipeline.codec.factor for side in self.x.shape[2:])
        return width, height

    @property
    def num(self) -> int:
        return len(self.captions)

    @property
    def cost(self) -> float:
        return cost_of(self.num, self.size[0] * self.size[1], 1, False)

    @property
    def num_bytes(self) -> int:
        return self.x.nbytes

    @property
    def texts(self) -> list[str]:
        return self.captions

    def start(self, network: ConditionalDenoiser) -> SamplingTask:
        x = self.x.to(self.pipeline.device).expand(self.num, -1, -1, -1)
        denoise = network(self.pipeline.encode(self.captions))
        return SamplingTask(_once(x, self.sigma), denoise, 1)


def _once(x: Tensor, sigma: float) -> Coroutine:
    return (yield Query(x, x.new_full((len(x),), sigma)))
