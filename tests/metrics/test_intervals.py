"""Intervals against references, and against how often they should hold what they are of."""

import math

import pytest
import torch
from scipy import stats

from tintype.diffusion.noise import normal
from tintype.metrics.intervals import (
    bootstrap,
    exact_proportion,
    format_percent,
    jackknife,
    mean,
    proportion,
    proportion_difference,
    student_t_quantile,
)


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 19, 191])
def test_student_is_that_of_scipy(freedom: int) -> None:
    assert student_t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-2)


@pytest.mark.parametrize(("right", "num"), [(0, 10), (10, 10), (3, 10), (71, 100)])
def test_share_is_wilsons(right: int, num: int) -> None:
    estimate, expected = proportion(right, num), stats.binomtest(right, num).proportion_ci(method="wilson")
    assert estimate.value == right / num
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize(("copies", "num"), [(0, 1000), (3, 1000), (1000, 1000), (1, 1), (40, 192), (0, 12)])
def test_exact_share_is_clopper_and_pearsons(copies: int, num: int) -> None:
    estimate, expected = exact_proportion(copies, num), stats.binomtest(copies, num).proportion_ci(method="exact")
    assert estimate == pytest.approx((copies / num, expected.low, expected.high), abs=1e-10)


def test_the_difference_of_two_shares_is_newcombes() -> None:
    """Newcombe (1998), table II, example (a): 56/70 and 48/80, 0.2000 [0.0524, 0.3339]."""
    difference = proportion_difference(proportion(56, 70), proportion(48, 80))
    assert difference == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_the_interval_of_a_mean_holds_it_95_times_in_100() -> None:
    draws = normal(0, 0, torch.arange(2000), (12,))
    held = sum(estimate.low <= 0 <= estimate.high for estimate in map(mean, draws))
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_a_bootstrap_finds_the_interval_of_a_ratio() -> None:
    """Delta method for the ratio of two independent means."""
    over, under = 3 + normal(1, 0, 0, (400,))[0], 2 + 0.5 * normal(2, 0, 0, (300,))[0]
    (ratio,) = bootstrap([over[:, None], under[:, None]], lambda means: means[0] / means[1], seed=0)
    value = float(over.mean() / under.mean())
    error = value * math.hypot(float(over.std() / over.mean()) / 20, float(under.std() / under.mean()) / math.sqrt(300))
    assert ratio.value == pytest.approx(value)
    assert (ratio.high - ratio.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.12)


def test_a_jackknife_of_a_mean_has_about_its_standard_error() -> None:
    draws = normal(3, 0, torch.arange(50), (200,))
    widths = [
        (f.high - f.low) / 2 / student_t_quantile(9)
        for f in (jackknife(200, lambda c, d=d: float(d[c].mean())) for d in draws)
    ]
    assert sum(widths) / 50 == pytest.approx(1 / math.sqrt(200), rel=0.1)


def test_nothing_is_said_of_nothing() -> None:
    assert math.isnan(mean(torch.empty(0)).value)
    assert mean(torch.ones(1)).high == math.inf
    assert (proportion(0, 0).low, proportion(0, 0).high) == (0.0, 1.0)
    assert (exact_proportion(0, 0).low, exact_proportion(0, 0).high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.5, "50 %"), (0.034, "3.4 %"), (0.0012, "0.12 %"), (0.9993, "99.93 %"), (0.0, "0 %"), (1.0, "100 %"),
     (-0.02, "-2 %"), (0.3, "30 %"), (float("nan"), "unknown")],
)  # fmt: skip
def test_shares_are_written_with_the_digits_that_tell(value: float, said: str) -> None:
    assert format_percent(value) == said


def test_a_mean_of_errors_is_of_pictures() -> None:
    assert mean(torch.tensor([1.0, 3.0])).value == 2.0
