"""The clock, its other names, and schedules."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tintype.diffusion.sigmas import SCHEDULES as SCHEDULES_BY_NAME
from tintype.diffusion.sigmas import (
    alpha_bar,
    flow_sigmas,
    flow_time,
    karras_sigmas,
    log_snr,
    log_snr_sigmas,
    logistic_sigmas,
    shift,
    sigma_from_alpha_bar,
    sigma_from_flow_time,
    sigma_from_log_snr,
)

SCHEDULES = [karras_sigmas, flow_sigmas, log_snr_sigmas, logistic_sigmas]  # the last may end above sigma_min
Schedule = Callable[..., torch.Tensor]
levels = st.floats(1e-3, 1e3)


def f64(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


@given(levels)
@settings(deadline=None)
def test_names_of_sigma_round_trip(value: float) -> None:
    sigma = f64(value)
    assert sigma_from_log_snr(log_snr(sigma)).item() == pytest.approx(value, rel=1e-12)
    assert sigma_from_flow_time(flow_time(sigma)).item() == pytest.approx(value, rel=1e-12 * (1 + value))
    assert sigma_from_alpha_bar(alpha_bar(sigma)).item() == pytest.approx(value, rel=1e-12 + 1e-15 / value**2)


@given(levels)
@settings(deadline=None)
def test_every_name_scales_signal_and_noise_as_it_should(value: float) -> None:
    t, bar, snr = flow_time(f64(value)).item(), alpha_bar(f64(value)).item(), math.exp(log_snr(f64(value)).item())
    assert t / (1 - t) == pytest.approx(value)
    assert math.sqrt((1 - bar) / bar) == pytest.approx(value, rel=1e-6)
    assert bar / (1 - bar) == pytest.approx(snr, rel=1e-6)


@given(levels, st.floats(0.1, 10))
@settings(deadline=None)
def test_a_timestep_shift_multiplies_sigma(value: float, factor: float) -> None:
    t = flow_time(f64(value)).item()
    shifted = factor * t / (1 + (factor - 1) * t)
    assert flow_time(shift(f64(value), factor)).item() == pytest.approx(shifted, rel=1e-12)
    logit = math.log(t / (1 - t))
    assert math.log(shifted / (1 - shifted)) == pytest.approx(logit + math.log(factor), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 16, 100])
def test_schedules_fall_from_one_end_to_the_other_and_to_zero(schedule: Schedule, steps: int) -> None:
    sigmas = schedule(steps, 0.02, 80.0)
    assert sigmas.shape == (steps + 1,)
    assert sigmas.dtype == torch.float64
    assert sigmas[0] == 80.0
    assert sigmas[-1] == 0.0
    assert (sigmas.diff() < 0).all()
    if steps > 1 and schedule is not logistic_sigmas:
        assert sigmas[-2] == 0.02


def test_schedules_are_even_in_what_they_are_named_for() -> None:
    def second(values: torch.Tensor) -> float:
        return float(values.diff().diff().abs().max() / values.abs().max())

    assert second(karras_sigmas(9, 0.02, 80.0)[:-1] ** (1 / 7)) < 1e-13
    assert second(flow_time(flow_sigmas(9, 0.02, 80.0)[:-1])) < 1e-13
    assert second(flow_time(shift(flow_sigmas(9, 0.02, 80.0, shift=3.0)[:-1], 1 / 3))) < 1e-13
    assert second(log_snr(log_snr_sigmas(9, 0.02, 80.0)[:-1])) < 1e-13


def test_a_larger_shift_keeps_sigma_larger() -> None:
    assert (flow_sigmas(9, 0.02, 80.0, shift=3.0)[1:-2] > flow_sigmas(9, 0.02, 80.0)[1:-2]).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("bad", [(0, 0.1, 1.0), (4, 0.0, 1.0), (4, 1.0, 1.0), (4, 0.1, math.inf), (4, math.nan, 1.0)])
def test_impossible_schedules_are_refused(schedule: Schedule, bad: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError):
        schedule(*bad)


def test_impossible_shapes_of_schedules_are_refused() -> None:
    with pytest.raises(ValueError):
        karras_sigmas(4, 0.1, 1.0, rho=0.0)
    with pytest.raises(ValueError):
        flow_sigmas(4, 0.1, 1.0, shift=-1.0)
    with pytest.raises(ValueError):
        logistic_sigmas(4, 0.1, 1.0, center=0.0)
    with pytest.raises(ValueError):
        logistic_sigmas(4, 0.1, 1.0, width=math.nan)


@pytest.mark.parametrize("center", [0.3, 1.0, 4.0])
def test_a_logistic_grid_is_even_down_to_zero_and_dense_around_its_center(center: float) -> None:
    for steps in (1, 2, 8, 20):
        levels = logistic_sigmas(steps, 0.001, 80.0, center, 1.3)
        quantile = 1 / (1 + (levels / center) ** (-1 / 1.3))  # the logistic distribution of ln sigma
        torch.testing.assert_close(quantile.diff(), -quantile[:1].expand(steps) / steps, rtol=1e-9, atol=0)
    many = logistic_sigmas(400, 0.02, 80.0, center)
    assert many[-2] == 0.02
    steps_in_log = -many[:-1].log().diff()
    assert many[int(steps_in_log.argmin())].item() == pytest.approx(center, rel=0.1)
    flow = logistic_sigmas(400, 0.02, 80.0, center, 1.0)
    torch.testing.assert_close(flow, flow_sigmas(400, 0.02, 80.0, shift=center), rtol=1e-9, atol=0)


def test_the_schedules_by_name_are_the_grids() -> None:
    for name, schedule in SCHEDULES_BY_NAME.items():
        levels = schedule(7, 0.02, 80.0, 0.8, 1.4)
        assert torch.equal(levels[[0, -1]], torch.tensor([80.0, 0.0], dtype=torch.float64))
        if name == "logistic":
            assert torch.equal(levels, logistic_sigmas(7, 0.02, 80.0, 0.8, 1.4))
        if name == "flow":
            assert torch.equal(levels, flow_sigmas(7, 0.02, 80.0, 0.8))
