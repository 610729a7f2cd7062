"""The loss against its known optimum, and the reported error against its definition."""

import math

import pytest
import torch

from tintype.diffusion.exact import gaussian_denoiser
from tintype.diffusion.loss import WEIGHTS, diffusion_loss, loss_weight, noise_error, per_level
from tintype.diffusion.noise import Purpose, add_noise, normal
from tintype.diffusion.parameterization import PREDICTIONS, denoised_from, network_target, scalings

MEAN, VARIANCE, NUM = 0.3, 0.25, 200_000
LEVELS = [1 / 9, 1.0, 9.0]  # flow time .1, .5, .9


def gaussian_data(level: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x0 = MEAN + math.sqrt(VARIANCE) * normal(0, Purpose.INIT, torch.arange(8), (1, 1, NUM // 8)).double()
    return x0, normal(0, Purpose.NOISE, torch.arange(8), (1, 1, NUM // 8)).double(), x0.new_full((8,), level)


def known_optimum(name: str, level: float) -> float:
    """Smallest possible weighted error for N(MEAN, VARIANCE), from the error of each quantity in flow time."""
    t = level / (1 + level)
    total = (1 - t) ** 2 * VARIANCE + t**2
    image, noise, velocity = VARIANCE * t**2 / total, (1 - t) ** 2 * VARIANCE / total, VARIANCE / total
    # The edm weight is the inverse square of its c_out.
    edm = image * (level**2 + VARIANCE) / (level**2 * VARIANCE)
    return {"image": image, "noise": noise, "velocity": velocity, "edm": edm}[name]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", list(WEIGHTS))
def test_a_perfect_denoiser_reaches_the_known_optimum(name: str, level: float) -> None:
    x0, noise, sigma = gaussian_data(level)
    weight = WEIGHTS[name](sigma, math.sqrt(VARIANCE))
    loss = diffusion_loss(gaussian_denoiser(MEAN, VARIANCE), add_noise(x0, noise, sigma), x0, sigma, weight)
    assert loss.shape == (8,)
    assert loss.mean().item() == pytest.approx(known_optimum(name, level), rel=0.015)


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_a_faded_weight_is_the_weight_at_little_noise_and_falls_as_one_over_sigma_at_much(name: str) -> None:
    sigma = torch.tensor([0.02, 0.5, 10.0, 1e3, 2e3], dtype=torch.float64)
    plain = WEIGHTS[name](sigma, 0.5)
    assert torch.equal(loss_weight(name, sigma, 0.5), plain)
    share = loss_weight(name, sigma, 0.5, 10.0) / plain
    assert share.tolist() == pytest.approx([1.0, 0.99875, 0.70711, 0.0099995, 0.005], rel=1e-4)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_fitting_any_prediction_finds_the_optimum_and_nothing_below(prediction: str, level: float) -> None:
    x0, noise, sigma = gaussian_data(level)
    x = add_noise(x0, noise, sigma)
    seen = scalings(prediction, sigma, 0.5).c_in.reshape(-1, 1, 1, 1) * x
    target = network_target(prediction, x0, x, sigma, 0.5)
    columns = torch.stack([torch.ones(NUM, dtype=torch.float64), seen.flatten()], dim=1)
    solution = torch.linalg.lstsq(columns, target.reshape(-1, 1)).solution  # a network of two weights, fully trained

    def network(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return denoised_from(prediction, (columns @ solution).reshape(x.shape), x, sigma, 0.5)

    fitted = (
        diffusion_loss(network, add_noise(x0, noise, sigma), x0, sigma, WEIGHTS["velocity"](sigma, 0.5)).mean().item()
    )
    perfect = (
        diffusion_loss(
            gaussian_denoiser(MEAN, VARIANCE), add_noise(x0, noise, sigma), x0, sigma, WEIGHTS["velocity"](sigma, 0.5)
        )
        .mean()
        .item()
    )
    assert fitted == pytest.approx(known_optimum("velocity", level), rel=0.015)
    assert fitted == pytest.approx(perfect, rel=1e-4)
    torch.testing.assert_close(
        network(x, sigma), gaussian_denoiser(MEAN, VARIANCE)(x, sigma), rtol=0, atol=0.02 * max(1, level / 3)
    )


def test_a_network_of_zeros_has_the_known_velocity_loss() -> None:
    shape, mean, deviation = (3, 16, 16), 0.2, 0.5
    x0 = mean + deviation * normal(0, Purpose.INIT, torch.arange(256), shape).double()
    noise = normal(0, Purpose.NOISE, torch.arange(256), shape).double()
    sigma = torch.logspace(math.log10(0.06), math.log10(80), 256, dtype=torch.float64)  # flow time above the floor

    def zero(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return denoised_from("velocity", torch.zeros_like(x), x, sigma, deviation)

    loss = diffusion_loss(zero, add_noise(x0, noise, sigma), x0, sigma, WEIGHTS["velocity"](sigma, deviation))
    torch.testing.assert_close(loss, (noise - x0).square().flatten(1).mean(1), rtol=1e-10, atol=0)
    assert loss.mean().item() == pytest.approx(1 + deviation**2 + mean**2, rel=0.01)


def test_weights_by_hand() -> None:
    sigma = torch.tensor([0.01, 1.0, 3.0], dtype=torch.float64)
    assert WEIGHTS["noise"](sigma, 0.5).tolist() == pytest.approx([1e4, 1, 1 / 9])
    assert WEIGHTS["velocity"](sigma, 0.5).tolist() == pytest.approx([400, 4, 16 / 9])
    assert WEIGHTS["image"](sigma, 0.5).tolist() == [1, 1, 1]
    assert WEIGHTS["edm"](sigma, 0.5).tolist() == pytest.approx([0.2501 / 0.25e-4, 5, 9.25 / 2.25])


def test_noise_error_is_the_error_of_the_predicted_noise() -> None:
    x0, noise = normal(0, 9, torch.arange(4), (3, 8, 8)).double(), normal(0, 0, torch.arange(4), (3, 8, 8)).double()
    sigma = torch.tensor([0.05, 0.5, 5.0, 50.0], dtype=torch.float64)
    x = add_noise(x0, noise, sigma)
    denoised = gaussian_denoiser(0.0, 1.0)(x, sigma)
    predicted = (x - denoised) / sigma.reshape(-1, 1, 1, 1)
    expected = (predicted - noise).square().flatten(1).mean(1)
    torch.testing.assert_close(noise_error(denoised, x0, sigma), expected, rtol=1e-9, atol=0)


def test_errors_are_taken_in_the_dtype_of_the_data() -> None:
    x0 = torch.full((1, 1, 2, 2), 1 / 3)
    error = noise_error(x0.bfloat16(), x0, torch.ones(1))
    assert error.dtype == torch.float32
    assert 0 < error.item() < 1e-5


def test_per_level_means_by_hand() -> None:
    sigma = torch.tensor([0.05, 0.1, 0.5, 1.0, 2.0, 100.0])
    values = torch.tensor([9.0, 1.0, 3.0, 5.0, 7.0, 9.0])
    means, counts = per_level(values, sigma, torch.tensor([0.1, 1.0, 10.0, 20.0]))
    assert counts.tolist() == [2, 2, 0]
    assert means[:2].tolist() == [2.0, 6.0]
    assert means[2].isnan()
