"""What is asked of the network itself: noise errors, beside the ideal denoiser, and whether captions are heard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tintype.evaluation.caption_use import WordProbe
from tintype.evaluation.eval_data import EvalData
from tintype.evaluation.results import CaptionUse, WordEffect
from tintype.metrics.intervals import Estimate, column_means, mean
from tintype.metrics.memorization import CODEC, ideal_errors
from tintype.metrics.noise_error import CaptionedDenoiser, evaluation_noise, noise_errors

BATCH = {"cpu": 32}


@dataclass(frozen=True)
class NoiseErrorBench:
    """What errors are measured with: the same noise for every model and question."""

    given: CaptionedDenoiser
    material: EvalData
    sigmas: Tensor  # [K]
    seed: int
    device: torch.device

    def errors(
        self, indices: Tensor, captions: Sequence[str], sigmas: Tensor | None = None
    ) -> Generator[int, None, Tensor]:
        """Noise error [N, K] of the pictures `indices` [N] under `captions`."""
        levels = self.sigmas if sigmas is None else sigmas
        found = torch.empty(len(indices), len(levels), dtype=torch.float64)
        for places in self.material.pack.by_shape(indices):
            own = indices[places]
            x0 = CODEC.encode(self.material.pictures(own))
            noise = evaluation_noise(self.seed, own, x0.shape[1:])
            texts = [captions[place] for place in places.tolist()]
            batch = BATCH.get(self.device.type, 256)
            found[places] = yield from noise_errors(
                self.given, x0, texts, noise, levels, batch=batch, device=self.device
            )
        return found

    def ideal(self, indices: Tensor) -> Generator[int, None, tuple[Tensor, Tensor]]:
        """Noise errors [N, K] of the ideal denoiser of the training set, with captions to look up by and without."""
        work = ideal_errors(self.material.pack, self.material.seen, indices, self.sigmas, self.seed)
        known, blind = yield from work
        return known, blind


def summarize_caption_use(
    right: Tensor, other: Tensor, empty: Tensor, words: list[WordEffect], word_sigmas: list[float], on_unseen: bool
) -> CaptionUse:
    """Put together what errors [N, K] under the right, another and no caption say."""
    return CaptionUse(
        on_unseen=on_unseen,
        right=column_means(right),
        other=column_means(other),
        empty=column_means(empty),
        gain_over_other=[relative_reduction(a, b) for a, b in zip(right.unbind(1), other.unbind(1), strict=True)],
        gain_over_empty=[relative_reduction(a, b) for a, b in zip(right.unbind(1), empty.unbind(1), strict=True)],
        words=words,
        word_sigmas=word_sigmas,
    )


def relative_reduction(better: Tensor, worse: Tensor) -> Estimate:
    """How much smaller one error is than another on the same pictures and noise [N], relative to the larger.

    1 - mean(better) / mean(worse), with the interval of the ratio by the delta method.
    """
    total = float(worse.double().mean())
    if not total > 0:
        return Estimate(0.0, 0.0, 0.0)
    ratio = float(better.double().mean()) / total
    spread = mean((ratio * worse.double() - better.double()) / total)
    return Estimate(1 - ratio, 1 - ratio + spread.low, 1 - ratio + spread.high)


def word_effects(probes: Sequence[WordProbe], with_word: Tensor, without: Tensor) -> list[WordEffect]:
    """The rise of the error when a word is left out, the largest first.

    with_word [N, L]: errors of all pictures; without [P, L]: of the probes. Levels are given equal weight.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, probe in enumerate(probes):
        rows[probe.word].append(row)
    base = with_word.mean(0)
    found = []
    for word, own in rows.items():
        pictures = torch.tensor([probes[row].picture for row in own])
        rise = ((without[own] - with_word[pictures]) / base).mean(1)
        found.append(WordEffect(word=word, effect=mean(rise), num=len(own)))
    return sorted(found, key=lambda use: -use.effect.value)
