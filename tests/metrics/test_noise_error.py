"""Noise error by level and the ideal denoiser of a set, on data whose answers are known."""

from __future__ import annotations

import pytest
import torch
from tests.metrics.conftest import SHAPE, SIGMAS, blocks_of, ideal, measured

from tintype.data.thread_pool import finished
from tintype.diffusion.exact import finite_denoiser, finite_errors, gaussian_denoiser
from tintype.diffusion.loss import noise_error
from tintype.diffusion.noise import normal
from tintype.metrics.intervals import column_means
from tintype.metrics.noise_error import errors_by_level, evaluation_noise


def test_the_error_on_gaussian_data_is_that_of_the_closed_form() -> None:
    """variance / (variance + sigma^2), within the intervals stated at every level."""
    variance = 0.3
    x0 = 0.2 + variance**0.5 * normal(7, 0, torch.arange(400), SHAPE)
    for seed in (0, 1):
        errors = column_means(measured(lambda captions: gaussian_denoiser(0.2, variance), x0, seed))
        for sigma, estimate in zip(SIGMAS.tolist(), errors, strict=True):
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
    errors = ideal(points, slice(5, 15), size)
    direct = measured(lambda captions: finite_denoiser(points), points[5:15], first=5)
    torch.testing.assert_close(errors, direct, rtol=1e-4, atol=1e-9)


def test_a_prior_leaves_out_points_and_weighs_them() -> None:
    points = 0.5 * normal(3, 0, torch.arange(40), SHAPE)
    noise = evaluation_noise(0, torch.arange(4), SHAPE)
    few = torch.zeros(40)
    few[20:] = -torch.inf  # a set of half the size
    twice = torch.zeros(40)
    twice[:10] = 0.6931472  # ten points that are there two times
    errors = finished(finite_errors(blocks_of(points, 16), points[:4], noise, SIGMAS, [few, twice]))
    for given, expected in ((points[:20], errors[0]), (torch.cat([points, points[:10]]), errors[1])):
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


def test_several_denoisers_see_the_same_noise_and_a_target_takes_the_place_of_the_picture() -> None:
    x0, noise = normal(7, 0, torch.arange(5), SHAPE), normal(8, 0, torch.arange(5), SHAPE)
    denoisers = [gaussian_denoiser(0.0, 1.0), gaussian_denoiser(0.2, 0.3)]
    both = finished(errors_by_level(denoisers, x0, noise, SIGMAS.tolist()))
    assert both.shape == (2, 5, len(SIGMAS))
    for denoiser, errors in zip(denoisers, both, strict=True):
        assert torch.equal(errors, finished(errors_by_level([denoiser], x0, noise, SIGMAS.tolist()))[0])
    right = finished(errors_by_level(denoisers[:1], x0, noise, SIGMAS.tolist(), denoisers[0]))
    assert torch.equal(right, torch.zeros(1, 5, len(SIGMAS), dtype=torch.float64))
