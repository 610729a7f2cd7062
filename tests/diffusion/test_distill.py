"""What a student is taught: on data whose flow is known, the flow map itself is the student without error."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tintype.diffusion.distill import ends_of, flow_target
from tintype.diffusion.exact import gaussian_denoiser, gaussian_flow, mixture_denoiser
from tintype.diffusion.loss import diffusion_loss
from tintype.diffusion.noise import Purpose, add_noise, normal
from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.samplers import sample
from tintype.diffusion.sigmas import logistic_sigmas, per_sample

LEVELS = logistic_sigmas(4, 0.02, 80.0).float()
SIGMA = torch.tensor([80.0, 30.0, *LEVELS[1:-1].tolist(), 1.0, 0.21, 0.05, 0.02])
MEAN, VARIANCE = 0.3, 0.25


def draws(num: int, seed: int = 0) -> Tensor:
    return normal(seed, Purpose.NOISE, torch.arange(num), (3, 4, 4))


def noisy(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Clean pictures of the Gaussian, and their noise."""
    return MEAN + VARIANCE**0.5 * draws(len(sigma), 1), draws(len(sigma))


def true_student(x: Tensor, sigma: Tensor) -> Tensor:
    """The denoised picture with which a straight step follows the flow of the Gaussian."""
    end = ends_of(sigma, LEVELS)
    keep = per_sample(end / sigma, x)
    return (gaussian_flow(x, sigma, end, MEAN, VARIANCE) - keep * x) / (1 - keep)


def target_of(denoise: Denoise, x: Tensor, sigma: Tensor, steps: int) -> Tensor:
    return flow_target(denoise, x, sigma, ends_of(sigma, LEVELS), steps, sigma_min=0.02)


def test_a_step_ends_at_the_next_level_below() -> None:
    levels = torch.tensor([80.0, 2.0, 0.5, 0.0])
    sigma = torch.tensor([100.0, 80.0, 79.0, 2.0, 1.9, 0.5, 0.49, 0.02])
    assert ends_of(sigma, levels).tolist() == [2.0, 2.0, 2.0, 0.5, 0.5, 0.0, 0.0, 0.0]
    assert ends_of(sigma, torch.tensor([80.0, 0.0])).tolist() == [0.0] * 8


def test_the_true_flow_map_has_no_error() -> None:
    x0, noise = noisy(SIGMA)
    x = add_noise(x0, noise, SIGMA)
    target = target_of(gaussian_denoiser(MEAN, VARIANCE), x, SIGMA, 512)
    weight = torch.ones_like(SIGMA)
    of_student = diffusion_loss(true_student, add_noise(x0, noise, SIGMA), target, SIGMA, weight)
    of_teacher = diffusion_loss(gaussian_denoiser(MEAN, VARIANCE), add_noise(x0, noise, SIGMA), target, SIGMA, weight)
    assert float(of_student.max()) < 1e-6  # what the step from the lowest level to 0 leaves
    assert float(of_teacher[:2].min()) > 1e-3  # at high noise the teacher itself is far from its own flow


def test_the_target_nears_the_flow_in_the_second_order() -> None:
    sigma = LEVELS[:3]  # steps that do not end at 0, where the last one is of the first order
    x0, noise = noisy(sigma)
    x, denoise = add_noise(x0, noise, sigma).double(), gaussian_denoiser(MEAN, VARIANCE)
    true = true_student(x, sigma)
    errors = [(target_of(denoise, x, sigma, steps) - true).abs().amax(dim=(1, 2, 3)) for steps in (16, 32, 64)]
    for coarse, fine in pairwise(errors):
        assert (coarse / fine > 3.3).all()
        assert (coarse / fine < 5.0).all()


def test_the_gradient_leads_to_the_flow_map() -> None:
    """A student with one free number: the loss is stationary where that number is the true one, and only there."""
    x0, noise = noisy(SIGMA)
    x = add_noise(x0, noise, SIGMA)
    target = target_of(gaussian_denoiser(MEAN, VARIANCE), x, SIGMA, 512)
    weight = torch.ones_like(SIGMA)

    def gradient_at(off: float) -> float:
        free = torch.tensor(off, requires_grad=True)
        losses = diffusion_loss(
            lambda x, s: true_student(x, s) + free, add_noise(x0, noise, SIGMA), target, SIGMA, weight
        )
        return float(torch.autograd.grad(losses.mean(), free)[0])

    gradients = [gradient_at(off) for off in (-0.1, 0.0, 0.1)]
    assert gradients == pytest.approx([-0.2, 0.0, 0.2], abs=2e-4)


def test_a_student_of_a_mixture_lands_on_the_flow_in_few_steps() -> None:
    """`euler` with the targets as answers is the teacher's flow, seen at the levels of the student."""
    teacher = mixture_denoiser(torch.tensor([0.3, 0.7]), draws(2, 5), torch.tensor([0.01, 0.04]))
    x = LEVELS[0] * draws(6, 3)
    samples = sample(lambda x, s: target_of(teacher, x, s, 64), x, LEVELS, "euler")
    true = sample(teacher, x, logistic_sigmas(200, 0.02, 80.0), "reference")
    few = sample(teacher, x, LEVELS, "euler")
    assert float((samples - true).square().mean()) < 0.05 * float((few - true).square().mean())
    assert float((samples - true).square().mean()) < 1e-4


@pytest.mark.parametrize("ratio", [1.000001, 1.001])
def test_short_ways_lose_no_digits(ratio: float) -> None:
    sigma = ratio * LEVELS[1:4]
    x0, noise = noisy(sigma)
    x, denoise = add_noise(x0, noise, sigma), gaussian_denoiser(MEAN, VARIANCE)
    assert torch.allclose(target_of(denoise, x, sigma, 3), denoise(x, sigma), atol=2e-3)


def test_nothing_is_asked_below_the_lowest_noise_level() -> None:
    sigmas = list[Tensor]()

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        sigmas.append(sigma)
        return torch.zeros_like(x)

    sigma = torch.tensor([0.5, 0.03, 0.02])
    x0, noise = noisy(sigma)
    target = target_of(denoise, add_noise(x0, noise, sigma), sigma, 6)
    assert torch.equal(target, torch.zeros_like(target))
    assert float(torch.stack(sigmas).min()) == pytest.approx(0.02)
