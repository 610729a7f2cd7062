"""Noise error per level, the ideal denoiser of a set and the gauge, on data whose answers are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tintype.data.thread_pool import finished
from tintype.diffusion.exact import finite_denoiser, finite_errors, gaussian_denoiser, mixture_denoiser
from tintype.diffusion.loss import noise_error
from tintype.diffusion.noise import normal
from tintype.metrics.intervals import column_means, mean
from tintype.metrics.memorization import memorization_ratio
from tintype.metrics.noise_error import CaptionedDenoiser, errors_by_level, evaluation_noise, noise_errors

SHAPE = (3, 4, 4)
SIGMAS = torch.tensor([0.05, 0.2, 0.5, 1.0, 3.0, 20.0])


def measured(given: CaptionedDenoiser, x0: Tensor, seed: int = 0, first: int = 0) -> Tensor:
    noise = evaluation_noise(seed, torch.arange(first, first + len(x0)), SHAPE)
    return finished(noise_errors(given, x0, [""] * len(x0), noise, SIGMAS, batch=100))


def blocks_of(points: Tensor, size: int):  # type: ignore[no-untyped-def]
    return lambda: iter(points.split(size))


def ideal(points: Tensor, chosen: slice, size: int = 64) -> Tensor:
    noise = evaluation_noise(0, torch.arange(len(points))[chosen], SHAPE)
    return finished(finite_errors(blocks_of(points, size), points[chosen], noise, SIGMAS, [torch.zeros(len(points))]))[
        0
    ]


def test_the_error_on_gaussian_data_is_that_of_the_closed_form() -> None:
    """variance / (variance + sigma^2), within the intervals stated at every level."""
    variance = 0.3
    x0 = 0.2 + variance**0.5 * normal(7, 0, torch.arange(400), SHAPE)
    for seed in (0, 1):
        found = column_means(measured(lambda captions: gaussian_denoiser(0.2, variance), x0, seed))
        for sigma, estimate in zip(SIGMAS.tolist(), found, strict=True):
            exact = variance / (variance + sigma**2)
            assert abs(estimate.value - exact) < 1.5 * (estimate.high - estimate.low) / 2
            assert estimate.high - estimate.low < 0.1 * exact


def test_figures_repeat_exactly_and_another_seed_differs_within_the_intervals() -> None:
    x0 = normal(7, 0, torch.arange(200), SHAPE)
    given = lambda captions: gaussian_denoiser(0.0, 1.0)  # noqa: E731
    first, again, other = (measured(given, x0, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert all(a.low < b.high and b.low < a.high for a, b in zip(column_means(first), column_means(other), strict=True))


def test_predicting_nothing_is_an_error_of_one() -> None:
    nothing = measured(lambda captions: lambda x, sigma: x, torch.zeros(300, *SHAPE))
    torch.testing.assert_close(nothing.mean(0), torch.ones(len(SIGMAS), dtype=torch.float64), atol=0.05, rtol=0)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_streamed_ideal_is_that_of_the_ideal_denoiser(size: int) -> None:
    points = 0.5 * normal(3, 0, torch.arange(60), SHAPE)
    found = ideal(points, slice(5, 15), size)
    direct = measured(lambda captions: finite_denoiser(points), points[5:15], first=5)
    torch.testing.assert_close(found, direct, rtol=1e-4, atol=1e-9)


def test_a_prior_leaves_out_points_and_weighs_them() -> None:
    points = 0.5 * normal(3, 0, torch.arange(40), SHAPE)
    noise = evaluation_noise(0, torch.arange(4), SHAPE)
    few = torch.zeros(40)
    few[20:] = -torch.inf  # a set of half the size
    twice = torch.zeros(40)
    twice[:10] = 0.6931472  # ten points that are there two times
    found = finished(finite_errors(blocks_of(points, 16), points[:4], noise, SIGMAS, [few, twice]))
    for given, expected in ((points[:20], found[0]), (torch.cat([points, points[:10]]), found[1])):
        for level, sigma in enumerate(SIGMAS.tolist()):
            sigmas = torch.full((4,), sigma)
            denoised = finite_denoiser(given)(points[:4] + sigma * noise, sigmas)
            torch.testing.assert_close(
                expected[:, level].float(), noise_error(denoised, points[:4], sigmas), rtol=1e-3, atol=1e-8
            )


def test_copies_of_a_picture_are_told_from_it_by_nobody() -> None:
    points = normal(3, 0, torch.arange(20), SHAPE)
    points = torch.cat([points, points[:1]])
    assert float(ideal(points, slice(0, 1))[0, 0]) < 1e-9


WEIGHTS = torch.ones(len(SIGMAS))


def blobs(first: int, num: int) -> Tensor:
    """Pictures of a mixture: five means, and a variance of 0.09."""
    means_of = normal(11, 0, torch.arange(5), SHAPE)
    return means_of[torch.arange(first, first + num) % 5] + 0.3 * normal(12, 0, torch.arange(first, first + num), SHAPE)


def gauged(given: CaptionedDenoiser) -> tuple[list[float], bool]:
    training, held_out = blobs(0, 400), blobs(400, 400)
    found = memorization_ratio(
        measured(given, held_out, first=400), measured(given, training), ideal(training, slice(0, 400)), WEIGHTS, seed=0
    )
    return [one.value for one in found], all(one.low < 0 < one.high for one in found[:4])


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
    found = memorization_ratio(measured(given, held_out, first=400), (seen + best) / 2, best, WEIGHTS, seed=0)
    assert 0.4 < found[2].value < 0.6
    assert found[2].low < 0.5 < found[2].high


def test_where_new_pictures_are_no_harder_there_is_no_gauge() -> None:
    same = torch.ones(30, 2, dtype=torch.float64)
    found = memorization_ratio(same, same, same, torch.ones(2), seed=0)
    assert all(one.value != one.value for one in found)


def test_a_mean_of_errors_is_of_pictures() -> None:
    assert mean(torch.tensor([1.0, 3.0])).value == 2.0


def test_several_denoisers_see_the_same_noise_and_a_target_takes_the_place_of_the_picture() -> None:
    x0, noise = normal(7, 0, torch.arange(5), SHAPE), normal(8, 0, torch.arange(5), SHAPE)
    denoisers = [gaussian_denoiser(0.0, 1.0), gaussian_denoiser(0.2, 0.3)]
    both = finished(errors_by_level(denoisers, x0, noise, SIGMAS.tolist()))
    assert both.shape == (2, 5, len(SIGMAS))
    for denoiser, errors in zip(denoisers, both, strict=True):
        assert torch.equal(errors, finished(errors_by_level([denoiser], x0, noise, SIGMAS.tolist()))[0])
    right = finished(errors_by_level(denoisers[:1], x0, noise, SIGMAS.tolist(), denoisers[0]))
    assert torch.equal(right, torch.zeros(1, 5, len(SIGMAS), dtype=torch.float64))
