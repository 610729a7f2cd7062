"""Samplers as coroutines: each yields what it wants to know, is sent the answer, and returns the finished picture.

    predicted noise = (x - denoised) / sigma        dx / d sigma = predicted noise

A sampler knows nothing of models, captions, guidance or devices. With lambda = -ln sigma and h the growth of lambda in
a step, the multistep ones approximate `denoised` by a polynomial in the exact solution

    x_next = e^-h x + integral from 0 to h of e^-(h - u) denoised(lambda + u) du

The grid is any strictly decreasing run of noise levels. Coefficients are computed in float64; states keep the dtype of
x. A step to sigma 0 returns `denoised` itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from tintype.diffusion.parameterization import Denoise as Denoise


class Query(NamedTuple):
    """A question to the network: what is the clean picture?"""

    x: Tensor  # [B, C, H, W] noisy pictures
    sigma: Tensor  # [B] their noise levels


class Step(NamedTuple):
    """One evaluation of the network."""

    index: int  # type: ignore[assignment]  # from 0; hides tuple.index, which nobody needs here
    total: int  # evaluations in all
    sigma: float  # noise level of x
    x: Tensor  # [B, C, H, W] noisy pictures
    denoised: Tensor  # [B, C, H, W] what the network takes them for

    @property
    def predicted_noise(self) -> Tensor:
        """The layer of static that the network sees in x, [B, C, H, W]."""
        return (self.x - self.denoised) / self.sigma


Randn = Callable[[int], Tensor]  # n -> the n-th draw of standard normal noise, shaped like x
Coroutine = Generator[Query, Tensor, Tensor]
Sampler = Callable[[Tensor, Tensor, Randn | None], Coroutine]


def euler(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """First order: DDIM (2010.02502 eq. 13), Euler in sigma and rectified-flow Euler are all this one."""
    for sigma, sigma_next in pairwise(_levels(sigmas)):
        denoised = yield _query(x, sigma)
        x = _move(x, denoised, sigma_next / sigma)
    return x


def heun(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Second order, two evaluations per step and one in a step to 0 (EDM, 2206.00364 algorithm 1)."""
    for sigma, sigma_next in pairwise(_levels(sigmas)):
        denoised = yield _query(x, sigma)
        ahead = _move(x, denoised, sigma_next / sigma)
        if sigma_next > 0:
            there = yield _query(ahead, sigma_next)
            slope = (x - denoised) / sigma + (ahead - there) / sigma_next
            ahead = x + slope * ((sigma_next - sigma) / 2)
        x = ahead
    return x


def dpmpp_2m(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Second order, one evaluation per step: DPM-Solver++(2M) (2211.01095 algorithm 2)."""
    before, h_before = x, math.inf
    for sigma, sigma_next in pairwise(_levels(sigmas)):
        denoised = yield _query(x, sigma)
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        x = _move(x, _ahead(denoised, before, h / h_before), sigma_next / sigma)
        before, h_before = denoised, h
    return x


def unipc(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Third order, one evaluation per step: predict as dpmpp_2m, then correct with the new evaluation.

    UniPC (2302.04867) with the corrector's weights taken from the integral above, exact when `denoised` is quadratic in
    lambda. The answer to the last query is the picture: the last two steps are only predicted, with order 2 and 1.
    """
    start, seen = x, list[tuple[float, Tensor]]()  # start: corrected x of the step before; seen: newest first
    for sigma, sigma_next in pairwise(_levels(sigmas)):
        denoised = yield _query(x, sigma)
        if sigma_next == 0:
            return denoised
        if seen:
            x = _correct(start, [(sigma, denoised), *seen], seen[0][0])
        h = math.log(sigma / sigma_next)
        before, h_before = (seen[0][1], math.log(seen[0][0] / sigma)) if seen else (denoised, math.inf)
        start, seen = x, [(sigma, denoised), *seen[:1]]
        x = _move(x, _ahead(denoised, before, h / h_before), sigma_next / sigma)
    return x


def euler_ancestral(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """First order with fresh noise: a step draws from the posterior of DDPM (2006.11239 eq. 6-7) at x0 = denoised."""
    if randn is None:
        raise ValueError("this sampler adds noise: pass randn, a function from the number of a draw to noise like x")
    for index, (sigma, sigma_next) in enumerate(pairwise(_levels(sigmas))):
        denoised = yield _query(x, sigma)
        ratio = sigma_next / sigma
        x = _move(x, denoised, ratio**2)
        if sigma_next > 0:
            x = x + randn(index) * (sigma_next * math.sqrt(1 - ratio**2))
    return x


SAMPLERS: dict[str, Sampler] = {
    "unipc": unipc,
    "dpmpp_2m": dpmpp_2m,
    "euler": euler,
    "ddim": euler,
    "heun": heun,
    "euler_ancestral": euler_ancestral,
}


def num_evaluations(sampler: Sampler, sigmas: Tensor) -> int:
    """How often a sampler asks the network on this grid, found by running it on no pictures at all."""
    nothing = torch.empty(0, 1, 1, 1)
    coroutine = sampler(nothing, sigmas, lambda num_drawn: nothing)
    next(coroutine)
    num = 1
    try:
        while True:
            coroutine.send(nothing)
            num += 1
    except StopIteration:
        return num


def steps_of(
    sampler: Sampler, denoise: Denoise, x: Tensor, sigmas: Tensor, randn: Randn | None = None
) -> Generator[Step, None, Tensor]:
    """Run a sampler from x [B, C, H, W] at sigmas[0]: one Step per evaluation, then the picture as return value.

    Raises ValueError at once if the grid is not strictly decreasing or the sampler needs a randn that is not given.
    Closing the generator cancels.
    """
    total = num_evaluations(sampler, sigmas)
    coroutine = sampler(x, sigmas, randn)
    return _drive(coroutine, next(coroutine), denoise, total)


def _drive(coroutine: Coroutine, query: Query, denoise: Denoise, total: int) -> Generator[Step, None, Tensor]:
    index = 0
    while True:
        denoised = denoise(query.x, query.sigma).to(query.x.dtype)
        level = float(query.sigma[0]) if len(query.sigma) else math.nan
        yield Step(index, total, level, query.x, denoised)
        index += 1
        try:
            query = coroutine.send(denoised)
        except StopIteration as finished:
            picture: Tensor = finished.value
            return picture


def sample(sampler: Sampler, denoise: Denoise, x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Tensor:
    """Run a sampler from x [B, C, H, W] at sigmas[0] to the end, [B, C, H, W]. Raises as `steps_of` does."""
    steps = steps_of(sampler, denoise, x, sigmas, randn)
    try:
        while True:
            next(steps)
    except StopIteration as finished:
        picture: Tensor = finished.value
    return picture


def _levels(sigmas: Tensor) -> list[float]:
    levels: list[float] = sigmas.double().tolist()
    if len(levels) < 2 or not math.isfinite(levels[0]) or levels[-1] < 0 or any(b >= a for a, b in pairwise(levels)):
        raise ValueError(f"sigmas must be two or more noise levels, strictly decreasing and not below 0, not {levels}")
    return levels


def _query(x: Tensor, sigma: float) -> Query:
    return Query(x, x.new_full((len(x),), sigma))


def _move(x: Tensor, denoised: Tensor, ratio: float) -> Tensor:
    """x at sigma_next = ratio * sigma if `denoised` stayed as it is."""
    return denoised + (x - denoised) * ratio if ratio > 0 else denoised


def _ahead(denoised: Tensor, before: Tensor, ratio: float) -> Tensor:
    """`denoised` half a step ahead, from the last two; ratio of the step to the step before, 0 if there was none."""
    return denoised + (denoised - before) * (ratio / 2) if ratio > 0 else denoised


def _correct(start: Tensor, seen: Sequence[tuple[float, Tensor]], sigma_start: float) -> Tensor:
    """The step from `start` at sigma_start to the newest level seen, with the polynomial through all answers seen."""
    h = math.log(sigma_start / seen[0][0])
    # Time runs from 0 at the start of the step to 1 at its end.
    weights = exponential_weights([math.log(sigma_start / sigma) / h for sigma, _ in seen], h)
    x = start * math.exp(-h)
    for weight, (_, denoised) in zip(weights, seen, strict=True):
        x = x + denoised * weight
    return x


def exponential_weights(nodes: Sequence[float], h: float) -> list[float]:
    """Weights w with sum_i w_i p(nodes_i) = integral from 0 to 1 of h e^-(h (1 - v)) p(v) dv for every polynomial p of
    degree below the number of nodes: integrals of the Lagrange polynomials, by their coefficients."""
    moments = [_moment(power, h) for power in range(len(nodes))]
    weights = []
    for i, node in enumerate(nodes):
        coefficients = [1.0]  # of the polynomial that is 1 at node and 0 at all the others, lowest power first
        for other in [*nodes[:i], *nodes[i + 1 :]]:
            shifted, scaled = [0.0, *coefficients], [*(-other * c for c in coefficients), 0.0]
            coefficients = [(a + b) / (node - other) for a, b in zip(shifted, scaled, strict=True)]
        weights.append(sum(c * m for c, m in zip(coefficients, moments, strict=True)))
    return weights


def _moment(power: int, h: float) -> float:
    """Integral from 0 to 1 of h e^-(h (1 - v)) v^power dv."""
    if h < 1:  # the recurrence below loses digits here; this is its power series
        term, total = h / (power + 1), 0.0
        for k in range(power + 2, power + 22):
            total, term = total + term, -term * h / k
        return total
    moment = -math.expm1(-h)
    for j in range(1, power + 1):
        moment = 1 - j * moment / h  # integration by parts
    return moment
