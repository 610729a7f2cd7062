"""The noise error bench: noise errors of a model and of the ideal denoiser, on the same pictures and noise."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tintype.evaluation.eval_data import EvalData
from tintype.metrics.memorization import ideal_errors
from tintype.metrics.noise_error import CaptionedDenoiser, evaluation_noise, noise_errors
from tintype.model.codec import Codec
from tintype.pipeline.pipeline import Pipeline

BATCH = {"cpu": 32}


def captioned_denoiser(pipeline: Pipeline) -> CaptionedDenoiser:
    """The denoiser of a pipeline, conditioned on captions, without guidance."""
    return lambda captions: pipeline.denoiser.conditioned(pipeline.encode(captions))


@dataclass(frozen=True)
class NoiseErrorBench:
    """Measures noise errors with the same noise for every model and caption."""

    denoiser: CaptionedDenoiser
    codec: Codec
    data: EvalData
    sigmas: Tensor  # [K]
    seed: int
    device: torch.device

    def errors(
        self, indices: Tensor, captions: Sequence[str], sigmas: Tensor | None = None
    ) -> Generator[int, None, Tensor]:
        """Noise errors [N, K] of the pictures at `indices` [N], conditioned on `captions`."""
        levels = self.sigmas if sigmas is None else sigmas
        batch = BATCH.get(self.device.type, 256)
        errors = torch.empty(len(indices), len(levels), dtype=torch.float64)
        for rows in self.data.dataset.by_shape(indices):
            x0 = self.codec.encode(self.data.pictures(indices[rows]))
            noise = evaluation_noise(self.seed, indices[rows], x0.shape[1:])
            texts = [captions[row] for row in rows.tolist()]
            errors[rows] = yield from noise_errors(
                self.denoiser, x0, texts, noise, levels, batch=batch, device=self.device
            )
        return errors

    def ideal(self, indices: Tensor) -> Generator[int, None, tuple[Tensor, Tensor]]:
        """Noise errors [N, K] of the ideal denoiser of the training set, with captions and without."""
        errors = yield from ideal_errors(self.data.dataset, self.codec, self.data.seen, indices, self.sigmas, self.seed)
        with_captions, no_captions = errors
        return with_captions, no_captions
