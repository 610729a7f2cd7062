"""Closed-form denoisers against the score of written-out densities: denoised = x + sigma^2 grad log p(x; sigma)."""

import math
from collections.abc import Callable

import pytest
import torch

from tintype.diffusion.exact import finite_denoiser, gaussian_denoiser, gaussian_flow, mixture_denoiser
from tintype.diffusion.noise import Purpose, normal

F64 = torch.float64
SIGMA = torch.tensor([0.05, 0.4, 1.0, 3.0, 20.0, 80.0], dtype=F64)


def noisy(shape: tuple[int, ...]) -> torch.Tensor:
    draws = normal(0, Purpose.EVALUATE, torch.arange(len(SIGMA)), shape).double()
    return draws * (0.5 + SIGMA.reshape(-1, *([1] * len(shape))))


def from_score(x: torch.Tensor, log_density: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_density(x).sum(), x)
    return (x + SIGMA.square().reshape(-1, 1, 1, 1) * gradient).detach()


def test_gaussian_denoiser_is_the_posterior_mean() -> None:
    x, mean, variance = noisy((2, 2, 1)), 0.3, torch.tensor([[[0.2]], [[0.7]]], dtype=F64)

    def log_density(x: torch.Tensor) -> torch.Tensor:
        return -(x - mean).square() / (2 * (variance + SIGMA.square().reshape(-1, 1, 1, 1)))

    expected = from_score(x, log_density)
    torch.testing.assert_close(gaussian_denoiser(mean, variance)(x, SIGMA), expected, rtol=0, atol=1e-11)


def test_gaussian_flow_solves_the_flow_equation_and_composes() -> None:
    x, mean, variance = noisy((1, 1, 1)), 0.3, 0.4
    sigma_next = (SIGMA / 3).requires_grad_()
    there = gaussian_flow(x, SIGMA, sigma_next, mean, variance)
    (slope,) = torch.autograd.grad(there.sum(), sigma_next)
    there, sigma_next = there.detach(), sigma_next.detach()
    denoised = gaussian_denoiser(mean, variance)(there, sigma_next)
    torch.testing.assert_close(slope, (there - denoised).flatten() / sigma_next, rtol=1e-10, atol=1e-12)
    back = gaussian_flow(there, sigma_next, SIGMA, mean, variance)
    torch.testing.assert_close(back, x, rtol=1e-12, atol=0)


def test_mixture_denoiser_is_the_posterior_mean() -> None:
    x = noisy((2, 1, 1))
    weights = torch.tensor([0.6, 0.4], dtype=F64)
    means = torch.tensor([[1.0, -0.3], [-0.5, 0.4]], dtype=F64).reshape(2, 2, 1, 1)
    variances = torch.tensor([0.1, 0.3], dtype=F64)

    def log_density(x: torch.Tensor) -> torch.Tensor:
        total = 0.0
        for weight, mean, variance in zip(weights, means, variances, strict=True):
            spread = variance + SIGMA.square()
            distance = (x - mean).square().flatten(1).sum(1)
            total = total + weight * torch.exp(-distance / (2 * spread)) / (2 * math.pi * spread)
        return torch.log(total)

    expected = from_score(x, log_density)
    torch.testing.assert_close(mixture_denoiser(weights, means, variances)(x, SIGMA), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("block", [1, 7, 4096])
def test_finite_denoiser_is_the_weighted_mean_of_its_points(block: int) -> None:
    points, x = normal(1, Purpose.INIT, torch.arange(40), (3, 4, 4)).double(), noisy((3, 4, 4))
    distance = (x[:, None] - points).square().flatten(2).sum(2)
    shares = torch.softmax(-distance / (2 * SIGMA.square()[:, None]), dim=1)
    expected = torch.einsum("bn,nchw->bchw", shares, points)
    torch.testing.assert_close(finite_denoiser(points, block=block)(x, SIGMA), expected, rtol=0, atol=1e-10)


def test_finite_denoiser_keeps_its_head_at_tiny_noise_in_float32() -> None:
    points = normal(1, Purpose.INIT, torch.arange(40), (3, 16, 16))
    close = points[0] + 1e-3 * normal(2, Purpose.INIT, 0, (3, 16, 16))  # nearly the same picture twice
    points = torch.cat([points, close])
    x = torch.stack([points[0], points[40], points[5]]) + 1e-4 * normal(3, 0, torch.arange(3), (3, 16, 16))
    denoised = finite_denoiser(points, block=16)(x, torch.full((3,), 1e-4))
    assert denoised.dtype == torch.float32
    torch.testing.assert_close(denoised, points[[0, 40, 5]], rtol=0, atol=1e-6)
