"""Deterministic samplers: they follow the probability flow, each with its order of accuracy.

Multistep samplers remember earlier predictions and query once per step. All their coefficients follow from the noise
levels alone and are planned before the first query: a step is one weighted sum of pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from tintype.diffusion.coroutine import Coroutine, Randn, Sampler, combine, exponential_weights, levels_of, query


class Stage(NamedTuple):
    """One step of a multistep sampler: coefficients of its answers, newest first."""

    sigma: float
    redo: float  # what is kept of the state before, when the step to `sigma` is done again with the answer there
    correct: tuple[float, ...]  # weights of that second time; none: the step stays as it is
    keep: float  # what is kept of x in the step from `sigma`; 0 where the answer is the picture
    predict: tuple[float, ...]


Plan = tuple[Stage, ...]


def euler(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """First order: DDIM (2010.02502 eq. 13), Euler in sigma and rectified-flow Euler are all this one."""
    return (yield from _multistep(x, plan(levels_of(sigmas), 1, 0)))


def dpmpp_2m(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Second order, one evaluation per step: DPM-Solver++(2M) (2211.01095 algorithm 2)."""
    return (yield from _multistep(x, plan(levels_of(sigmas), 2, 0, midpoint)))


def unipc(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Third order, one evaluation per step: predict, then correct with the new evaluation.

    UniPC (2302.04867) with weights taken from the integral in coroutine.py, and polynomials in ln(1 + sigma) in place
    of lambda: the corrector is exact where `denoised` is quadratic in that. The predictor lies halfway between those of
    second and third order: one is too cautious and the other too bold where steps are long. The answer to the last
    query is the picture.
    """
    return (yield from _multistep(x, plan(levels_of(sigmas), 3, 3, in_log_flow, caution=0.5)))


def deis_2(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Second order, one evaluation per step: exponential Adams-Bashforth (DEIS, 2204.13902) in lambda."""
    return (yield from _multistep(x, plan(levels_of(sigmas), 2, 0)))


def deis_3(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Third order, one evaluation per step: exponential Adams-Bashforth (DEIS, 2204.13902) in lambda.

    It is what DPM-Solver++(3M) means to be: as widely copied, that has its last term twice too small and order 2.
    """
    return (yield from _multistep(x, plan(levels_of(sigmas), 3, 0)))


def deis_4(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Fourth order, one evaluation per step: exponential Adams-Bashforth (DEIS, 2204.13902) in lambda."""
    return (yield from _multistep(x, plan(levels_of(sigmas), 4, 0)))


def heun(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Second order, two evaluations per step and one in a step to 0 (EDM, 2206.00364 algorithm 1)."""
    for sigma, sigma_next in pairwise(levels_of(sigmas)):
        x = yield from heun_step(x, sigma, sigma_next)
    return x


def heun_step(x: Tensor, sigma: float, sigma_next: float) -> Coroutine:
    """One step of `heun`."""
    denoised = yield query(x, sigma)
    ahead = _move(x, denoised, sigma_next / sigma)
    if sigma_next == 0:
        return ahead
    there = yield query(ahead, sigma_next)
    slope = (x - denoised) / sigma + (ahead - there) / sigma_next
    return x + slope * ((sigma_next - sigma) / 2)


def reference(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Fourth order without memory, four evaluations per step and one in a step to 0: what others are measured by.

    Exponential Runge-Kutta (Cox and Matthews 2002, eq. 26-29, "ETDRK4") in lambda.
    """
    for sigma, sigma_next in pairwise(levels_of(sigmas)):
        x = yield from _runge_kutta(x, sigma, sigma_next)
    return x


def _runge_kutta(x: Tensor, sigma: float, sigma_next: float) -> Coroutine:
    first = yield query(x, sigma)
    if sigma_next == 0:
        return first
    h = math.log(sigma / sigma_next)
    middle, half = math.sqrt(sigma * sigma_next), math.exp(-h / 2)
    ahead = combine(x, half, [1 - half], [first])
    second = yield query(ahead, middle)
    third = yield query(combine(x, half, [1 - half], [second]), middle)
    fourth = yield query(combine(ahead, half, [2 * (1 - half), half - 1], [third, first]), sigma_next)
    start, between, end = exponential_weights([0.0, 0.5, 1.0], h)
    return combine(x, half * half, [start, between / 2, between / 2, end], [first, second, third, fourth])


def _move(x: Tensor, denoised: Tensor, ratio: float) -> Tensor:
    """x at sigma_next = ratio * sigma if `denoised` stayed as it is."""
    return denoised + (x - denoised) * ratio if ratio > 0 else denoised


def _multistep(x: Tensor, stages: Plan) -> Coroutine:
    start, answers = x, list[Tensor]()  # start: the state before the last step; answers: newest first
    for stage in stages:
        denoised = yield query(x, stage.sigma)
        answers = [denoised, *answers[:3]]
        if stage.correct:
            x = combine(start, stage.redo, stage.correct, answers[: len(stage.correct)])
        if stage.keep == 0:
            return denoised
        start, x = x, combine(x, stage.keep, stage.predict, answers[: len(stage.predict)])
    return x


# (levels, newest first; sigma, sigma_next) -> weights of the answers at those levels in the step.
Weigh = Callable[[Sequence[float], float, float], list[float]]


def in_lambda(seen: Sequence[float], sigma: float, sigma_next: float) -> list[float]:
    """By the polynomial in lambda through all answers."""
    h = math.log(sigma / sigma_next)
    # Time runs from 0 at the start of the step to 1 at its end.
    return exponential_weights([math.log(sigma / level) / h for level in seen], h)


def midpoint(seen: Sequence[float], sigma: float, sigma_next: float) -> list[float]:
    """As DPM-Solver++(2M) does: by the line in lambda through two answers, at the middle of the step."""
    grown = -math.expm1(math.log(sigma_next / sigma))
    if len(seen) == 1:
        return [grown]
    share = math.log(sigma / sigma_next) / math.log(seen[1] / seen[0]) / 2
    return [grown * (1 + share), -grown * share]


def in_log_flow(seen: Sequence[float], sigma: float, sigma_next: float) -> list[float]:
    """By the polynomial in ln(1 + sigma) = -ln(1 - t), t the flow time, through all answers.

    At high noise it runs along with lambda. At low noise, where what is left to find falls with sigma, it slows down,
    and a polynomial through a few answers swings less. The integral is taken by Gauss's rule.
    """
    h = math.log(sigma / sigma_next)
    time, share = _gauss()
    places = torch.log1p(sigma * torch.exp(-h * time))
    kernel = share * torch.exp(-h * (1 - time))
    nodes = [math.log1p(level) for level in seen]
    weights = []
    for i, node in enumerate(nodes):
        basis = kernel
        for other in [*nodes[:i], *nodes[i + 1 :]]:
            basis = basis * (places - other) / (node - other)
        weights.append(float(basis.sum()))
    return [weight * -math.expm1(-h) / sum(weights) for weight in weights]  # they add up to what is exact


@lru_cache(maxsize=1)
def _gauss(num: int = 32) -> tuple[Tensor, Tensor]:
    """Places from 0 to 1 and their shares, enough for steps of any length, by eigenvalues (Golub and Welsch 1969)."""
    k = torch.arange(1, num, dtype=torch.float64)
    beside = torch.diag(k / (4 * k.square() - 1).sqrt(), 1)
    places, vectors = torch.linalg.eigh(beside + beside.T)
    return (places + 1) / 2, vectors[0].square()


@lru_cache(maxsize=64)
def plan(levels: tuple[float, ...], predict: int, correct: int, weigh: Weigh = in_lambda, caution: float = 0.0) -> Plan:
    """Every coefficient of a multistep sampler on a schedule.

    predict: answers that a step goes by, at most; correct: answers by which it is done again, the new one among them; 0
    for never. caution: how far from weights of `predict` answers to those of one fewer.
    """
    stages = []
    for index, (sigma, sigma_next) in enumerate(pairwise(levels)):
        seen = levels[index::-1]  # newest first
        if sigma_next == 0:
            stages.append(Stage(sigma, 0.0, (), 0.0, (1.0,)))
            continue
        redo, corrections = 0.0, list[float]()
        if correct and index:
            redo, corrections = sigma / seen[1], weigh(seen[:correct], seen[1], sigma)
        predictions = weigh(seen[:predict], sigma, sigma_next)
        if caution and len(seen) >= predict:
            careful = [*weigh(seen[: predict - 1], sigma, sigma_next), 0.0]
            predictions = [w + caution * (c - w) for w, c in zip(predictions, careful, strict=True)]
        stages.append(Stage(sigma, redo, tuple(corrections), sigma_next / sigma, tuple(predictions)))
    return tuple(stages)


# Names in diffusion/names.py. "ddim" is what others call euler; "etdrk4" is the usual name of the reference.
SAMPLERS: dict[str, Sampler] = {
    "unipc": unipc,
    "dpmpp_2m": dpmpp_2m,
    "deis_2": deis_2,
    "deis_3": deis_3,
    "deis_4": deis_4,
    "euler": euler,
    "ddim": euler,
    "heun": heun,
    "reference": reference,
    "etdrk4": reference,
}
