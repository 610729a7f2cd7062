"""Parts that samplers share: queries, noise levels, and the weights of exponential integrators.

    predicted noise = (x - denoised) / sigma        dx / d sigma = predicted noise

With lambda = -ln sigma and h the growth of lambda in a step, the exact solution over the step is

    x_next = e^-h x + integral from 0 to h of e^-(h - u) denoised(lambda + u) du

Samplers replace `denoised` by a polynomial through predictions of the network. Coefficients are computed in float64;
states keep the dtype of x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor


class Query(NamedTuple):
    """Noisy pictures to denoise: what a sampler yields. It is sent the prediction of the clean pictures.

    denoised = yield Query(x, x.new_full((len(x),), sigma))  # [B, C, H, W]
    """

    x: Tensor  # [B, C, H, W] noisy pictures
    sigma: Tensor  # [B] their noise levels


Randn = Callable[[int], Tensor]  # n -> the n-th draw of standard normal noise, shaped like x
Coroutine = Generator[Query, Tensor, Tensor]
Sampler = Callable[[Tensor, Tensor, Randn | None], Coroutine]


def query(x: Tensor, sigma: float) -> Query:
    """A query for all pictures of x at one noise level."""
    return Query(x, x.new_full((len(x),), sigma))


def levels_of(sigmas: Tensor) -> tuple[float, ...]:
    """Noise levels [K + 1] as numbers. Raises ValueError if they do not decrease, or go below 0."""
    levels = tuple(float(sigma) for sigma in sigmas.double().tolist())
    if len(levels) < 2 or not math.isfinite(levels[0]) or levels[-1] < 0 or any(b >= a for a, b in pairwise(levels)):
        raise ValueError(f"sigmas must be two or more noise levels, strictly decreasing and not below 0, not {levels}")
    return levels


def combine(x: Tensor, keep: float, weights: Sequence[float], terms: Sequence[Tensor]) -> Tensor:
    """keep * x + sum of weights * terms: the form of every linear step."""
    total = x * keep
    for weight, term in zip(weights, terms, strict=True):
        total = total.add_(term, alpha=weight)
    return total


def exponential_weights(nodes: Sequence[float], h: float) -> list[float]:
    """Weights w with sum_i w_i p(nodes_i) = integral from 0 to 1 of h e^-(h (1 - v)) p(v) dv for every polynomial p of
    degree below the number of nodes: integrals of the Lagrange polynomials, by their coefficients.

    h must not be 0; it is negative where noise grows.
    """
    moments = [_moment(power, h) for power in range(len(nodes))]
    weights = []
    for i, node in enumerate(nodes):
        coefficients = [1.0]  # of the polynomial that is 1 at node and 0 at all other nodes, lowest power first
        for other in [*nodes[:i], *nodes[i + 1 :]]:
            shifted, scaled = [0.0, *coefficients], [*(-other * c for c in coefficients), 0.0]
            coefficients = [(a + b) / (node - other) for a, b in zip(shifted, scaled, strict=True)]
        weights.append(sum(c * m for c, m in zip(coefficients, moments, strict=True)))
    return weights


def _moment(power: int, h: float) -> float:
    """Integral from 0 to 1 of h e^-(h (1 - v)) v^power dv."""
    if abs(h) < 1:  # the recurrence below loses digits here; this is its power series
        term, total = h / (power + 1), 0.0
        for k in range(power + 2, power + 22):
            total, term = total + term, -term * h / k
        return total
    moment = -math.expm1(-h)
    for j in range(1, power + 1):
        moment = 1 - j * moment / h  # integration by parts
    return moment
