"""The memorization gauge during training: 0 if training pictures are no easier than new ones, 1 if memorized."""

from __future__ import annotations

import math
from collections.abc import Generator

import torch
from torch import Tensor

from tintype.config import Config
from tintype.data.cache.dataset_cache import DatasetCache
from tintype.diffusion.noise import EvalSubset, Purpose, permutation
from tintype.metrics.intervals import Estimate
from tintype.metrics.memorization import ideal_errors, level_weights, memorization_ratio
from tintype.model.codec import make_codec
from tintype.training.core.batches import Samples
from tintype.training.core.validation_error import LEVELS, MAX_MEASURED

OVERALL = "all"  # key of the gauge over all noise levels, weighted as in training
MIN_PICTURES = 8  # of each subset; with fewer there is no gauge
IDEAL_TIME_SHARE = 0.005  # of the time trained so far, which computing the ideal errors may take
VALUES_PER_SECOND = 2**24  # values of a training set that this computation processes on one CPU core
MAX_VALUES = 2**28  # values of the largest training set with ideal errors: 87,000 pictures of 32 x 32


class MemorizationGauge:
    """The memorization gauge on a few training pictures, with the same pictures and noise at every validation.

    The errors of the ideal denoiser follow from the data alone. They are computed once, as soon as that takes a
    two-hundredth of the time trained so far. Until then, and for training sets that are too large or streamed, they
    count as 0: correct where every picture has its own caption; elsewhere the gauge is then too low.
    """

    def __init__(self, samples: Samples, config: Config) -> None:
        training, _ = samples.split(config.train.held_out)
        order = permutation(config.train.seed, Purpose.MEASURED, EvalSubset.TRAINING, len(training))
        self.indices = training[order[:MAX_MEASURED].sort().values]  # of the pictures that are measured, [N]
        self._samples, self._training, self._config = samples, training, config
        self._ideal: Tensor | None = None

    def ideal_errors(self, seconds: float) -> Generator[int, None, Tensor | None]:
        """Errors [N, K] of the ideal denoiser of the training set; None until `seconds` of training are enough.

        Yields the number of training pictures just compared, while the errors are computed.
        """
        samples = self._samples
        if self._ideal is None and isinstance(samples, DatasetCache) and len(self.indices) >= MIN_PICTURES:
            largest = max(3 * height * width for height, width in samples.shapes)
            if largest * len(self._training) <= min(MAX_VALUES, IDEAL_TIME_SHARE * seconds * VALUES_PER_SECOND):
                levels, seed = torch.tensor(LEVELS), self._config.train.seed
                codec = make_codec(self._config.net)
                progress = ideal_errors(samples, codec, self._training, self.indices, levels, seed, captions=[True])
                self._ideal = (yield from progress)[0]
        return self._ideal

    def ratios(self, held_out: Tensor, training: Tensor, ideal: Tensor | None) -> dict[str, Estimate]:
        """The gauge by noise level and over all, from errors [M, K] held out and [N, K] on the training `indices`.

        Empty with too few pictures. Omits levels without a gauge, such as those where the ideal denoiser does no better
        on training pictures than the model on held-out ones.
        """
        if min(len(held_out), len(training)) < MIN_PICTURES:
            return {}
        ideal = torch.zeros_like(training) if ideal is None else ideal
        weights = level_weights(self._config.noise, torch.tensor(LEVELS))
        ratios = memorization_ratio(held_out, training, ideal, weights, self._config.train.seed)
        names = [*(f"{level:g}" for level in LEVELS), OVERALL]
        return {name: ratio for name, ratio in zip(names, ratios, strict=True) if math.isfinite(ratio.value)}
