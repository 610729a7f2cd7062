"""Whether a model has begun to know its training pictures by heart, looked at while it trains."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tintype.config import Config
from tintype.data.cache.dataset_cache import Pack
from tintype.data.thread_pool import finished
from tintype.diffusion.noise import EvalSubset, Purpose, permutation
from tintype.metrics.intervals import Estimate
from tintype.metrics.memorization import ideal_errors, level_weights, memorization_ratio
from tintype.training.core.batches import Samples
from tintype.training.core.validation_error import LEVELS, MAX_MEASURED

OVERALL = "all"  # the gauge of all levels together, weighted as in training
FEW = 8  # pictures of each kind, below which nothing is said
SHARE = 0.005  # of the time trained so far, that finding what is best by heart may take
VALUES_A_SECOND = 2**24  # numbers of a training set gone through for it, on one CPU core
MOST_VALUES = 2**28  # numbers of a training set for which it is found at all: 87,000 pictures of 32 x 32


class Memory:
    """The memorization gauge on a few training pictures, the same ones and the same noise at every look.

    What is best by heart follows from the data alone. It is found once, as soon as that takes a two-hundredth of the
    time trained so far. Before, and for training sets that are too large or streamed, 0 stands in its place, which is
    right where every picture has a caption of its own; elsewhere the gauge is then too low.
    """

    def __init__(self, samples: Samples, config: Config) -> None:
        shown, _ = samples.split(config.train.held_out)
        order = permutation(config.train.seed, Purpose.MEASURED, EvalSubset.TRAINING, len(shown))
        self.pictures = shown[order[:MAX_MEASURED].sort().values]  # that are measured, [N]
        self._samples, self._shown, self._config = samples, shown, config
        self._ideal: Tensor | None = None

    def ideal(self, seconds: float) -> Tensor | None:
        """Errors [N, L] of the ideal denoiser of the training set, if they can be had after so long a training."""
        samples = self._samples
        if self._ideal is None and isinstance(samples, Pack) and len(self.pictures) >= FEW:
            largest = max(3 * height * width for height, width in samples.shapes)
            if largest * len(self._shown) <= min(MOST_VALUES, SHARE * seconds * VALUES_A_SECOND):
                levels, seed = torch.tensor(LEVELS), self._config.train.seed
                work = ideal_errors(samples, self._shown, self.pictures, levels, seed, captions=[True])
                self._ideal = finished(work)[0]
        return self._ideal

    def gauge(self, held_out: Tensor, training: Tensor, ideal: Tensor | None) -> dict[str, Estimate]:
        """The gauge by noise level, and of all together: of errors [M, L] and, on `pictures`, [N, L].

        Empty where there are too few pictures. What cannot be told, as where held-out pictures are no harder than the
        ideal denoiser finds training pictures, is left out.
        """
        if min(len(held_out), len(training)) < FEW:
            return {}
        best = torch.zeros_like(training) if ideal is None else ideal
        weights = level_weights(self._config.noise, torch.tensor(LEVELS))
        found = memorization_ratio(held_out, training, best, weights, self._config.train.seed)
        names = [*(f"{level:g}" for level in LEVELS), OVERALL]
        return {name: one for name, one in zip(names, found, strict=True) if math.isfinite(one.value)}
