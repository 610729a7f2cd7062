"""The memorization ratio is 1 for the ideal denoiser of the training set and 0 for the true distribution."""

from __future__ import annotations

import pytest
import torch
from tests.metrics.conftest import SHAPE, SIGMAS, ideal, measured
from torch import Tensor

from tintype.diffusion.exact import finite_denoiser, mixture_denoiser
from tintype.diffusion.noise import normal
from tintype.metrics.memorization import memorization_ratio
from tintype.metrics.noise_error import CaptionedDenoiser

WEIGHTS = torch.ones(len(SIGMAS))


def blobs(first: int, num: int) -> Tensor:
    """Pictures of a mixture: five means, and a variance of 0.09."""
    means_of = normal(11, 0, torch.arange(5), SHAPE)
    return means_of[torch.arange(first, first + num) % 5] + 0.3 * normal(12, 0, torch.arange(first, first + num), SHAPE)


def gauged(given: CaptionedDenoiser) -> tuple[list[float], bool]:
    training, held_out = blobs(0, 400), blobs(400, 400)
    ratios = memorization_ratio(
        measured(given, held_out, first=400), measured(given, training), ideal(training, slice(0, 400)), WEIGHTS, seed=0
    )
    return [ratio.value for ratio in ratios], all(ratio.low < 0 < ratio.high for ratio in ratios[:4])


def test_a_model_that_is_the_ideal_denoiser_has_a_gauge_of_one() -> None:
    values, _ = gauged(lambda captions: finite_denoiser(blobs(0, 400)))
    assert values[:4] == pytest.approx([1.0] * 4, abs=1e-4)
    assert values[-1] == pytest.approx(1.0, abs=1e-4)


def test_the_true_mixture_has_a_gauge_of_zero() -> None:
    true = mixture_denoiser(torch.full((5,), 0.2), normal(11, 0, torch.arange(5), SHAPE), torch.full((5,), 0.09))
    values, straddling = gauged(lambda captions: true)
    assert values[:4] == pytest.approx([0.0] * 4, abs=0.08)
    assert straddling


def test_halfway_between_the_two_lies_halfway() -> None:
    """Errors half of each: a gauge between those of both."""
    training, held_out = blobs(0, 200), blobs(400, 200)
    true = mixture_denoiser(torch.full((5,), 0.2), normal(11, 0, torch.arange(5), SHAPE), torch.full((5,), 0.09))
    best = ideal(training, slice(0, 200))
    given: CaptionedDenoiser = lambda captions: true  # noqa: E731
    seen = measured(given, training)
    ratios = memorization_ratio(measured(given, held_out, first=400), (seen + best) / 2, best, WEIGHTS, seed=0)
    assert 0.4 < ratios[2].value < 0.6
    assert ratios[2].low < 0.5 < ratios[2].high


def test_where_new_pictures_are_no_harder_there_is_no_gauge() -> None:
    same = torch.ones(30, 2, dtype=torch.float64)
    ratios = memorization_ratio(same, same, same, torch.ones(2), seed=0)
    assert all(ratio.value != ratio.value for ratio in ratios)
