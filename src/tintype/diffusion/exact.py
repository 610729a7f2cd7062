"""Denoisers in closed form: what a perfect network would say if the data is known; for tests and loss floors."""

from __future__ import annotations

import torch
from torch import Tensor

from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.sigmas import per_sample


def gaussian_denoiser(mean: Tensor | float, variance: Tensor | float) -> Denoise:
    """E[x0 | x] for x0 ~ N(mean, variance), independent pixels; both broadcast against [C, H, W]."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return mean + variance / (variance + per_sample(sigma, x).square()) * (x - mean)

    return denoise


def gaussian_flow(
    x: Tensor, sigma: Tensor | float, sigma_next: Tensor | float, mean: Tensor | float, variance: Tensor | float
) -> Tensor:
    """Where the probability flow carries x [B, ...] from sigma to sigma_next for x0 ~ N(mean, variance).

    sigma, sigma_next: one number, or [B]. The standard score keeps its value (2206.00364 eq. 1 solved for a Gaussian).
    """
    first, last = (per_sample(torch.as_tensor(s, dtype=x.dtype, device=x.device), x) for s in (sigma, sigma_next))
    return mean + torch.sqrt((variance + last.square()) / (variance + first.square())) * (x - mean)


def mixture_denoiser(weights: Tensor, means: Tensor, variances: Tensor) -> Denoise:
    """E[x0 | x] for a mixture of K Gaussians N(means_k, variances_k I): weights [K], means [K, ...], variances [K]."""
    centers = means.flatten(1)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        total = variances + sigma[:, None].square()  # [B, K]
        away = x.flatten(1)[:, None] - centers  # [B, K, D]
        logits = weights.log() - centers.shape[1] / 2 * total.log() - away.square().sum(-1) / (2 * total)
        share = torch.softmax(logits, dim=1)
        means_given_x = centers + (variances / total)[..., None] * away
        return (share[..., None] * means_given_x).sum(1).reshape(x.shape)

    return denoise


def finite_denoiser(points: Tensor, block: int = 4096) -> Denoise:
    """E[x0 | x] when x0 is one of `points` [N, ...], each as likely: the ideal denoiser of a training set.

    2206.00364 eq. 57. Goes through `block` points at a time, in float64: at small sigma the last digits of the squared
    distances decide.
    """
    flat = points.flatten(1)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        queries = x.flatten(1).double()
        inverse = (1 / sigma.double().square())[:, None]
        highest = torch.full_like(inverse, -torch.inf)
        total = torch.zeros_like(inverse)
        answer = torch.zeros_like(queries)
        for start in range(0, len(flat), block):
            some = flat[start : start + block].double()
            # -|x - y|^2 / 2 sigma^2 without the term in |x|^2, which all points share.
            logits = (queries @ some.T - some.square().sum(1) / 2) * inverse
            peak = torch.maximum(highest, logits.amax(1, keepdim=True))
            kept, share = torch.exp(highest - peak), torch.exp(logits - peak)
            total = total * kept + share.sum(1, keepdim=True)
            answer = answer * kept + share @ some
            highest = peak
        return (answer / total).reshape(x.shape).to(x.dtype)

    return denoise
