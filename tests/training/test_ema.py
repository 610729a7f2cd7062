"""The average has the profile it promises, costs nothing to look through, and survives exactly."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tintype.errors import CheckpointError
from tintype.training.core.ema import PowerEma, beta_at, gamma_of


@pytest.mark.parametrize(("width", "gamma"), [(0.05, 16.97), (0.10, 6.94), (0.25, 0.72)])
def test_known_exponents(width: float, gamma: float) -> None:
    assert gamma_of(width) == pytest.approx(gamma, abs=0.005)


@given(width=st.floats(1e-4, 0.2886))
def test_the_exponent_gives_the_width_back(width: float) -> None:
    gamma = gamma_of(width)
    assert math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) == pytest.approx(width, rel=1e-6)


@pytest.mark.parametrize("width", [0.0, -0.1, 0.3, 1.0])
def test_a_width_that_no_profile_has_is_refused(width: float) -> None:
    with pytest.raises(ValueError, match="width"):
        gamma_of(width)


def scalar_model(value: float = 0.0) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def average_of(num_steps: int, width: float, images: int) -> torch.Tensor:
    """Share of each step's weights in the average after `num_steps`."""
    model = nn.Linear(num_steps, 1, bias=False)
    ema = PowerEma(model, width)
    for step in range(num_steps):
        with torch.no_grad():
            model.weight.copy_(torch.eye(num_steps)[step : step + 1])
        ema.update((step + 1) * images, images)
    return ema.state_dict()["weight"][0].double()


def test_each_step_weighs_as_the_power_function_says() -> None:
    shares = average_of(200, 0.1, 64)
    times = (torch.arange(200, dtype=torch.float64) + 1) / 200
    assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
    mean = float((shares * times).sum())
    assert math.sqrt(float((shares * (times - mean) ** 2).sum())) == pytest.approx(0.1, rel=0.02)
    assert torch.all(shares.diff() > -1e-9)


def test_the_profile_depends_on_images_not_on_their_batches() -> None:
    whole = 1 - beta_at(128, 128, 6.0)
    assert whole == 1
    halves = beta_at(64 * 10, 64, 6.0) * beta_at(64 * 9, 64, 6.0)
    assert halves == pytest.approx(beta_at(64 * 10, 128, 6.0))


def test_the_first_update_forgets_the_beginning() -> None:
    model = scalar_model(5.0)
    ema = PowerEma(model, 0.1)
    nn.init.constant_(model.weight, 2.0)
    ema.update(4, 4)
    assert float(ema.state_dict()["weight"]) == 2.0


def fail_if_average(model: nn.Linear) -> None:
    if model.weight.item() == 1.0:
        raise ZeroDivisionError


def test_inside_applied_the_model_is_the_average_and_after_an_error_itself_again() -> None:
    model = scalar_model(1.0)
    ema = PowerEma(model, 0.1)
    ema.update(4, 4)
    nn.init.constant_(model.weight, 3.0)
    with pytest.raises(ZeroDivisionError), ema.applied():
        fail_if_average(model)
    assert model.weight.item() == 3.0
    assert float(ema.state_dict()["weight"]) == 1.0


def test_state_comes_back_exactly_and_must_fit() -> None:
    ema, other = PowerEma(scalar_model(0.1), 0.1), PowerEma(scalar_model(0.7), 0.1)
    other.load_state_dict(ema.state_dict())
    assert torch.equal(other.state_dict()["weight"], ema.state_dict()["weight"])
    with pytest.raises(CheckpointError, match="weight"):
        other.load_state_dict({})
    with pytest.raises(CheckpointError, match="weight"):
        other.load_state_dict({"weight": torch.ones(2, 2)})
