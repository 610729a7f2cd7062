"""Denoisers in closed form: what a perfect network would say if the data is known; for tests and loss floors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

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


COLUMNS = 4096  # points whose weights are summed at once
NEGLIGIBLE = 1e-10  # share below which a block of points adds nothing to what an ideal denoiser says

Blocks = Callable[[], Iterator[Tensor]]  # all points of a set in order, some [n, ...] at a time


def finite_errors(
    blocks: Blocks, x0: Tensor, noise: Tensor, sigmas: Tensor, log_priors: Sequence[Tensor]
) -> Generator[int, None, Tensor]:
    """Noise error of the ideal denoiser of a set too large to be held as floats, at points of the set under noise.

    For x = x0 + sigma * noise, the weight of point y is that of 2206.00364 eq. 57 times its prior:

        -|x - y|^2 / 2 sigma^2 = -|x0 - y|^2 / 2 sigma^2 - noise . (x0 - y) / sigma + what all points share

    The two products of pictures are the same at every sigma and are made once, in float64; the last digits of distances
    decide at small sigma. The mean that the denoiser says takes a product per level.

    Args:
        x0: [Q, ...], points of the set. noise: [Q, ...]. sigmas: [K].
        log_priors: P of them, each [N] or [Q, N]: ln of how likely a point is before x is seen, up to a constant.

    Yields how many points were gone through, about (1 + P) times each. Returns [P, Q, K] float64.
    """
    queries, draws = x0.flatten(1).double(), noise.flatten(1).double()
    num = log_priors[0].shape[-1]
    apart, along = torch.empty(2, len(queries), num).unbind()  # |x0 - y|^2 and noise . (x0 - y), [Q, N]
    start = 0
    for block in blocks():
        points = block.flatten(1).double()
        squares = queries.square().sum(1)[:, None] + points.square().sum(1) - 2 * (queries @ points.T)
        some = slice(start, start + len(block))
        apart[:, some] = squares.clamp_(min=0)
        along[:, some] = (queries * draws).sum(1)[:, None] - draws @ points.T
        start += len(block)
        yield len(block)
    found = []
    for prior in log_priors:
        sums = yield from _means_said(blocks, apart, along, sigmas, prior.float())
        away = [
            (said.double() - queries).square().mean(1) / sigma**2
            for said, sigma in zip(sums, sigmas.tolist(), strict=True)
        ]
        found.append(torch.stack(away, dim=1))
    return torch.stack(found)


def _means_said(
    blocks: Blocks, apart: Tensor, along: Tensor, sigmas: Tensor, prior: Tensor
) -> Generator[int, None, Tensor]:
    """What the ideal denoiser says [K, Q, D] float32, from the products [Q, N] of `finite_errors`."""
    totals = torch.full((len(sigmas), len(apart)), -torch.inf)  # ln of the sum of weights [K, Q]
    for start in range(0, apart.shape[1], COLUMNS):
        some = slice(start, start + COLUMNS)
        for level, sigma in enumerate(sigmas.tolist()):
            logits = _logits(apart[:, some], along[:, some], sigma, prior[..., some])
            totals[level] = torch.logaddexp(totals[level], torch.logsumexp(logits, 1))
    sums: Tensor | None = None
    start = 0
    for block in blocks():
        points, some = block.flatten(1).float(), slice(start, start + len(block))
        if sums is None:
            sums = points.new_zeros(len(sigmas), len(apart), points.shape[1])
        for level, sigma in enumerate(sigmas.tolist()):
            logits = _logits(apart[:, some], along[:, some], sigma, prior[..., some])
            share = logits.sub_(totals[level][:, None]).exp_()
            heard = share.amax(1) > NEGLIGIBLE
            if bool(heard.any()):
                sums[level, heard] += share[heard] @ points
        start += len(block)
        yield len(block)
    assert sums is not None  # a set has points
    return sums


def _logits(apart: Tensor, along: Tensor, sigma: float, prior: Tensor) -> Tensor:
    return torch.add(prior, apart, alpha=-0.5 / sigma**2).add_(along, alpha=-1 / sigma)
