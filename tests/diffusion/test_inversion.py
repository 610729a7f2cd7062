"""The way back from a picture to the noise that makes it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tintype.diffusion.exact import gaussian_denoiser, mixture_denoiser
from tintype.diffusion.inversion import invert
from tintype.diffusion.noise import Purpose, normal
from tintype.diffusion.ode import euler
from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.samplers import sample, steps_of
from tintype.diffusion.sigmas import karras_sigmas, log_snr_sigmas


def blobs(dtype: torch.dtype) -> Denoise:
    means = normal(5, Purpose.EVALUATE, torch.arange(6), (3, 4, 4)).to(dtype)
    return mixture_denoiser(torch.full((6,), 1 / 6, dtype=dtype), means, torch.full((6,), 0.02, dtype=dtype))


def noise(num: int, dtype: torch.dtype) -> Tensor:
    return normal(0, Purpose.START, torch.arange(num), (3, 4, 4)).to(dtype)


@pytest.mark.parametrize("steps", [12, 24, 40])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_finds_the_noise_that_a_picture_was_made_of(steps: int, dtype: torch.dtype) -> None:
    levels = log_snr_sigmas(steps, 0.02, 80.0)[:-1]
    start = 80 * noise(16, dtype)
    samples = sample(blobs(dtype), start, levels, euler)
    inverted = sample(blobs(dtype), samples, levels, invert)
    again = sample(blobs(dtype), inverted, levels, euler)
    assert (again - samples).square().mean((1, 2, 3)).max().sqrt() < 1e-3  # 66 dB between -1 and 1
    # Where two noises make nearly the same picture, the other one may be found.
    assert (inverted - start).square().mean((1, 2, 3)).sqrt().median() / 80 < 1e-3


def test_with_one_blob_each_step_back_is_the_step_undone() -> None:
    levels = karras_sigmas(6, 0.1, 20.0)[:-1]
    start = 20 * noise(4, torch.float64)
    samples = sample(gaussian_denoiser(0.3, 0.5), start, levels, euler)
    torch.testing.assert_close(sample(gaussian_denoiser(0.3, 0.5), samples, levels, invert), start, rtol=0, atol=5e-3)


def test_a_picture_is_led_back_to_the_same_noise_in_any_company() -> None:
    levels = log_snr_sigmas(10, 0.02, 80.0)[:-1]
    pictures = sample(blobs(torch.float32), 80 * noise(5, torch.float32), levels, euler)
    together = sample(blobs(torch.float32), pictures, levels, invert)
    for index in range(5):
        alone = sample(blobs(torch.float32), pictures[index : index + 1], levels, invert)
        torch.testing.assert_close(alone[0], together[index], rtol=0, atol=1e-3)  # of 80


def test_a_denoiser_that_cannot_be_led_back_comes_to_an_end() -> None:
    jumps: Denoise = lambda x, sigma: torch.where(x > 0, 40.0, -40.0)  # noqa: E731
    steps = steps_of(invert, jumps, torch.zeros(2, 1, 2, 2), torch.tensor([2.0, 1.0, 0.5]))
    assert 3 <= sum(1 for _ in steps) <= 2 * 40 + 1


def test_nothing_is_led_back_from_no_noise() -> None:
    with pytest.raises(ValueError, match="end above 0"):
        steps_of(invert, blobs(torch.float32), noise(1, torch.float32), karras_sigmas(4, 0.02, 80.0))
