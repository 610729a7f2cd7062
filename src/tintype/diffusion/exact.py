"""Denoisers in closed form: the predictions of a perfect network for known data, as test references and loss floors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

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
    """The point to which the probability flow moves x [B, ...] from sigma to sigma_next, for x0 ~ N(mean, variance).

    sigma, sigma_next: one number, or [B]. The standard score stays constant (Karras et al. 2022, arXiv 2206.00364,
    eq. 1, solved for a Gaussian).
    """
    first, last = (per_sample(torch.as_tensor(s, dtype=x.dtype, device=x.device), x) for s in (sigma, sigma_next))
    return mean + torch.sqrt((variance + last.square()) / (variance + first.square())) * (x - mean)


def mixture_denoiser(weights: Tensor, means: Tensor, variances: Tensor) -> Denoise:
    """E[x0 | x] for a mixture of M Gaussians N(means_m, variances_m I): weights [M], means [M, ...], variances [M]."""
    centers = means.flatten(1)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        total = variances + sigma[:, None].square()  # [B, M]
        distance = x.flatten(1)[:, None] - centers  # [B, M, C H W]
        logits = weights.log() - centers.shape[1] / 2 * total.log() - distance.square().sum(-1) / (2 * total)
        posterior = torch.softmax(logits, dim=1)
        means_given_x = centers + (variances / total)[..., None] * distance
        return (posterior[..., None] * means_given_x).sum(1).reshape(x.shape)

    return denoise


def finite_denoiser(points: Tensor, block: int = 4096) -> Denoise:
    """E[x0 | x] when x0 is one of `points` [N, ...], equally likely: the ideal denoiser of a training set
    (Karras et al. 2022, arXiv 2206.00364, eq. 57).

    Processes `block` points at a time, in float64: at small sigma the last digits of the squared distances decide.
    """
    flat = points.flatten(1)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        queries = x.flatten(1).double()
        inverse = (1 / sigma.double().square())[:, None]
        highest = torch.full_like(inverse, -torch.inf)
        total = torch.zeros_like(inverse)
        weighted_sum = torch.zeros_like(queries)
        for start in range(0, len(flat), block):
            rows = flat[start : start + block].double()
            # -|x - y|^2 / 2 sigma^2 without the term in |x|^2, which all points share.
            logits = (queries @ rows.T - rows.square().sum(1) / 2) * inverse
            peak = torch.maximum(highest, logits.amax(1, keepdim=True))
            rescale, weights = torch.exp(highest - peak), torch.exp(logits - peak)
            total = total * rescale + weights.sum(1, keepdim=True)
            weighted_sum = weighted_sum * rescale + weights @ rows
            highest = peak
        return (weighted_sum / total).reshape(x.shape).to(x.dtype)

    return denoise


def posterior_weights(blocks: Iterable[Tensor], x: Tensor, sigmas: Tensor) -> Tensor:
    """The weight of every point of a set in its ideal denoiser: the probability that x = point + sigma * noise.

    It is softmax_i(-|x - y_i|^2 / 2 sigma^2) (Karras et al. 2022, arXiv 2206.00364, eq. 57), points equally likely.

    blocks: all points in order, [n, ...] each. x: [K, ...], with noise of level sigmas [K]. Returns [K, N] float64.
    """
    queries, variances = x.flatten(1).double(), sigmas.double().square()[:, None]
    logits = []
    for block in blocks:
        points = block.flatten(1).double()
        logits.append((queries @ points.T - points.square().sum(1) / 2) / variances)
    return torch.softmax(torch.cat(logits, 1), dim=1)


COLUMNS = 4096  # points whose weights are summed at once
NEGLIGIBLE = 1e-10  # posterior below which a block of points adds nothing to the ideal prediction

Blocks = Callable[[], Iterator[Tensor]]  # all points of a set in order, in blocks [n, ...]


def finite_errors(
    blocks: Blocks, x0: Tensor, noise: Tensor, sigmas: Tensor, log_priors: Sequence[Tensor]
) -> Generator[int, None, Tensor]:
    """Noise error of the ideal denoiser of a set too large to be held as floats, at points of the set with noise.

    For x = x0 + sigma * noise, the weight of point y is that of Karras et al. 2022 (arXiv 2206.00364, eq. 57) times its
    prior:

        -|x - y|^2 / 2 sigma^2 = -|x0 - y|^2 / 2 sigma^2 - noise . (x0 - y) / sigma + a constant

    The two products of pictures are the same at every sigma and are computed once, in float64; the last digits of
    distances decide at small sigma. The mean, which is the prediction, takes a product per level.

    Args:
        x0: [Q, ...], points of the set. noise: [Q, ...]. sigmas: [K].
        log_priors: P of them, each [N] or [Q, N]: ln of the prior probability of a point, up to a constant.

    Yields the number of points just processed, about (1 + P) times each. Returns [P, Q, K] float64.
    """
    queries, draws = x0.flatten(1).double(), noise.flatten(1).double()
    num = log_priors[0].shape[-1]
    squared_distance, projection = torch.empty(2, len(queries), num).unbind()  # |x0 - y|^2 and noise . (x0 - y), [Q, N]
    start = 0
    for block in blocks():
        points = block.flatten(1).double()
        squares = queries.square().sum(1)[:, None] + points.square().sum(1) - 2 * (queries @ points.T)
        columns = slice(start, start + len(block))
        squared_distance[:, columns] = squares.clamp_(min=0)
        projection[:, columns] = (queries * draws).sum(1)[:, None] - draws @ points.T
        start += len(block)
        yield len(block)
    errors = []
    for prior in log_priors:
        predictions = yield from _predictions(blocks, squared_distance, projection, sigmas, prior.float())
        by_level = [
            (prediction.double() - queries).square().mean(1) / sigma**2
            for prediction, sigma in zip(predictions, sigmas.tolist(), strict=True)
        ]
        errors.append(torch.stack(by_level, dim=1))
    return torch.stack(errors)


def _predictions(
    blocks: Blocks, squared_distance: Tensor, projection: Tensor, sigmas: Tensor, prior: Tensor
) -> Generator[int, None, Tensor]:
    """Predictions of the ideal denoiser [K, Q, C H W] float32, from the products [Q, N] of `finite_errors`."""
    totals = torch.full((len(sigmas), len(squared_distance)), -torch.inf)  # ln of the sum of weights [K, Q]
    for start in range(0, squared_distance.shape[1], COLUMNS):
        columns = slice(start, start + COLUMNS)
        for level, sigma in enumerate(sigmas.tolist()):
            logits = _logits(squared_distance[:, columns], projection[:, columns], sigma, prior[..., columns])
            totals[level] = torch.logaddexp(totals[level], torch.logsumexp(logits, 1))
    sums: Tensor | None = None
    start = 0
    for block in blocks():
        points, columns = block.flatten(1).float(), slice(start, start + len(block))
        if sums is None:
            sums = points.new_zeros(len(sigmas), len(squared_distance), points.shape[1])
        for level, sigma in enumerate(sigmas.tolist()):
            logits = _logits(squared_distance[:, columns], projection[:, columns], sigma, prior[..., columns])
            posterior = logits.sub_(totals[level][:, None]).exp_()
            matters = posterior.amax(1) > NEGLIGIBLE
            if bool(matters.any()):
                sums[level, matters] += posterior[matters] @ points
        start += len(block)
        yield len(block)
    assert sums is not None  # a set has points
    return sums


def _logits(squared_distance: Tensor, projection: Tensor, sigma: float, prior: Tensor) -> Tensor:
    return torch.add(prior, squared_distance, alpha=-0.5 / sigma**2).add_(projection, alpha=-1 / sigma)
