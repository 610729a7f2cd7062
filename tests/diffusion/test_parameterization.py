"""Prediction types: what each says, and that they are one thing in four forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tintype.diffusion.noise import Purpose, add_noise, normal
from tintype.diffusion.parameterization import PREDICTIONS, denoised_from, network_target, predicted_noise, scalings

SD = 0.5


def pictures(seed: int, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    index = torch.arange(batch)
    return normal(seed, Purpose.INIT, index, (2, 4, 4)).double() * SD, normal(seed, 0, index, (2, 4, 4)).double()


@given(st.integers(0, 1000), st.lists(st.floats(0.002, 200), min_size=3, max_size=3), st.permutations(PREDICTIONS))
@settings(deadline=None)
def test_conversions_round_trip(seed: int, levels: list[float], order: list[str]) -> None:
    x0, noise = pictures(seed)
    sigma = torch.tensor(levels, dtype=torch.float64)
    x = add_noise(x0, noise, sigma)
    output = start = network_target(order[0], normal(seed, 5, torch.arange(3), (2, 4, 4)).double(), x, sigma, SD)
    for name, following in zip(order, [*order[1:], order[0]], strict=True):
        output = network_target(following, denoised_from(name, output, x, sigma, SD), x, sigma, SD)
    assert ((output - start).abs() <= 1e-12 * (1 + start.abs())).all()


@given(st.integers(0, 1000), st.floats(0.01, 100))
@settings(deadline=None)
def test_targets_are_what_their_names_say(seed: int, level: float) -> None:
    x0, noise = pictures(seed)
    sigma = torch.full((3,), level, dtype=torch.float64)
    x = add_noise(x0, noise, sigma)
    t = level / (1 + level)
    skip, out = SD**2 / (level**2 + SD**2), level * SD / math.sqrt(level**2 + SD**2)
    expected = {"noise": noise, "velocity": noise - x0, "image": x0, "edm": (x0 - skip * x) / out}
    for name in PREDICTIONS:
        target = network_target(name, x0, x, sigma, SD)
        torch.testing.assert_close(target, expected[name], rtol=0, atol=1e-11)
        torch.testing.assert_close(denoised_from(name, target, x, sigma, SD), x0, rtol=0, atol=1e-11)
    z = (1 - t) * x0 + t * noise
    torch.testing.assert_close(z - t * expected["velocity"], x0, rtol=0, atol=1e-12)
    torch.testing.assert_close(predicted_noise(x, x0, sigma), noise, rtol=0, atol=1e-11)


@pytest.mark.parametrize("level", [0.02, 0.5, 3.0, 80.0])
def test_inputs_and_edm_targets_have_unit_variance(level: float) -> None:
    x0, noise = normal(0, 9, 0, (400_000,)).double() * SD, normal(0, 0, 0, (400_000,)).double()
    sigma = torch.tensor([level], dtype=torch.float64)
    x = add_noise(x0, noise, sigma)
    assert (scalings("edm", sigma, SD).c_in * x).var().item() == pytest.approx(1, abs=0.01)
    assert network_target("edm", x0, x, sigma, SD).var().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_table_keeps_the_shape_of_sigma(name: str) -> None:
    sigma = torch.tensor([0.1, 1.0, 10.0])
    row = scalings(name, sigma, SD)
    assert all(value.shape == sigma.shape and value.dtype == sigma.dtype for value in row)
    torch.testing.assert_close(row.c_noise, sigma.log() / 4)


@pytest.mark.parametrize(("alias", "name"), [("epsilon", "noise"), ("x0", "image"), ("flow", "velocity")])
def test_predictions_have_the_names_of_other_libraries_too(alias: str, name: str) -> None:
    sigma = torch.tensor([0.1, 1.0, 10.0])
    assert all(
        torch.equal(one, other)
        for one, other in zip(scalings(alias, sigma, 0.5), scalings(name, sigma, 0.5), strict=True)
    )


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match="velocity"):
        scalings("v", torch.ones(1), SD)
