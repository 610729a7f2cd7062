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

from tintype.diffusion.solver import Coroutine, Randn, Sampler, combine, exponential_weights, levels_of, query


class Stage(NamedTuple):
    """One step of a multistep sampler: coefficients of its predictions, newest first."""

    sigma: float
    corrector_keep: float  # weight of the previous state when the corrector repeats the step to `sigma`
    correct: tuple[float, ...]  # weights of the corrector; empty for no corrector
    keep: float  # weight of x in the step from `sigma`; 0 where the prediction is the picture
    predict: tuple[float, ...]


Plan = tuple[Stage, ...]


def euler(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """First order: DDIM (Song et al. 2020, arXiv 2010.02502, eq. 13), Euler in sigma and rectified-flow Euler."""
    return (yield from _multistep(x, PLANS["euler"](levels_of(sigmas))))


def dpmpp_2m(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Second order, one evaluation per step: DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2)."""
    return (yield from _multistep(x, PLANS["dpmpp_2m"](levels_of(sigmas))))


def unipc(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Third order, one evaluation per step: predict, then correct with the new evaluation.

    UniPC (Zhao et al. 2023, arXiv 2302.04867) with weights from the integral in solver.py, and polynomials in
    ln(1 + sigma) in place of lambda: the corrector is exact where `denoised` is quadratic in it. The predictor lies
    halfway between second and third order: the first damps too much and the second overshoots where steps are long.
    The last prediction is the picture.
    """
    return (yield from _multistep(x, PLANS["unipc"](levels_of(sigmas))))


def deis_2(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Second order, one evaluation per step: exponential Adams-Bashforth in lambda (DEIS, Zhang and Chen 2022,
    arXiv 2204.13902)."""
    return (yield from _multistep(x, PLANS["deis_2"](levels_of(sigmas))))


def deis_3(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Third order, one evaluation per step: exponential Adams-Bashforth in lambda (DEIS, Zhang and Chen 2022,
    arXiv 2204.13902).

    DPM-Solver++(3M) aims at the same, but its widely copied form halves the last term and has order 2.
    """
    return (yield from _multistep(x, PLANS["deis_3"](levels_of(sigmas))))


def deis_4(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Fourth order, one evaluation per step: exponential Adams-Bashforth in lambda (DEIS, Zhang and Chen 2022,
    arXiv 2204.13902)."""
    return (yield from _multistep(x, PLANS["deis_4"](levels_of(sigmas))))


def heun(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Second order, two evaluations per step and one in a step to 0 (Karras et al. 2022, arXiv 2206.00364, alg. 1)."""
    for sigma, sigma_next in pairwise(levels_of(sigmas)):
        x = yield from heun_step(x, sigma, sigma_next)
    return x


def heun_step(x: Tensor, sigma: float, sigma_next: float) -> Coroutine:
    """One step of `heun`."""
    denoised = yield query(x, sigma)
    x_euler = _euler_step(x, denoised, sigma_next / sigma)
    if sigma_next == 0:
        return x_euler
    denoised_next = yield query(x_euler, sigma_next)
    slope = (x - denoised) / sigma + (x_euler - denoised_next) / sigma_next
    return x + slope * ((sigma_next - sigma) / 2)


def reference(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Fourth order, single-step: four evaluations per step and one in a step to 0. The reference for all others.

    Exponential Runge-Kutta in lambda ("ETDRK4", Cox and Matthews 2002, eq. 26-29).
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


def _euler_step(x: Tensor, denoised: Tensor, ratio: float) -> Tensor:
    """x at sigma_next = ratio * sigma, with `denoised` held constant."""
    return denoised + (x - denoised) * ratio if ratio > 0 else denoised


def _multistep(x: Tensor, stages: Plan) -> Coroutine:
    x_before, predictions = x, list[Tensor]()  # x_before: the state before the last step; predictions: newest first
    for stage in stages:
        denoised = yield query(x, stage.sigma)
        predictions = [denoised, *predictions[:3]]
        if stage.correct:
            x = combine(x_before, stage.corrector_keep, stage.correct, predictions[: len(stage.correct)])
        if stage.keep == 0:
            return denoised
        x_before, x = x, combine(x, stage.keep, stage.predict, predictions[: len(stage.predict)])
    return x


# (levels, newest first; sigma, sigma_next) -> weights in the step of the predictions at those levels.
StepWeights = Callable[[Sequence[float], float, float], list[float]]


def in_lambda(levels: Sequence[float], sigma: float, sigma_next: float) -> list[float]:
    """Weights of the polynomial in lambda through all predictions."""
    h = math.log(sigma / sigma_next)
    # Time runs from 0 at the start of the step to 1 at its end.
    return exponential_weights([math.log(sigma / level) / h for level in levels], h)


def midpoint(levels: Sequence[float], sigma: float, sigma_next: float) -> list[float]:
    """Weights of DPM-Solver++(2M): the line in lambda through two predictions, at the middle of the step."""
    total = -math.expm1(math.log(sigma_next / sigma))
    if len(levels) == 1:
        return [total]
    ratio = math.log(sigma / sigma_next) / math.log(levels[1] / levels[0]) / 2
    return [total * (1 + ratio), -total * ratio]


def in_log_flow(levels: Sequence[float], sigma: float, sigma_next: float) -> list[float]:
    """Weights of the polynomial in ln(1 + sigma) = -ln(1 - t), t the flow time, through all predictions.

    At high noise this variable runs along with lambda. At low noise, where the remaining detail shrinks with sigma, it
    slows down, and a polynomial through a few predictions oscillates less. Gauss's rule computes the integral.
    """
    h = math.log(sigma / sigma_next)
    time, gauss_weights = _gauss()
    points = torch.log1p(sigma * torch.exp(-h * time))
    kernel = gauss_weights * torch.exp(-h * (1 - time))
    nodes = [math.log1p(level) for level in levels]
    weights = []
    for i, node in enumerate(nodes):
        basis = kernel
        for other in [*nodes[:i], *nodes[i + 1 :]]:
            basis = basis * (points - other) / (node - other)
        weights.append(float(basis.sum()))
    return [weight * -math.expm1(-h) / sum(weights) for weight in weights]  # normalized to the exact sum


@lru_cache(maxsize=1)
def _gauss(num: int = 32) -> tuple[Tensor, Tensor]:
    """Gauss points in [0, 1] and weights, enough for steps of any length, by eigenvalues (Golub and Welsch 1969)."""
    k = torch.arange(1, num, dtype=torch.float64)
    off_diagonal = torch.diag(k / (4 * k.square() - 1).sqrt(), 1)
    points, vectors = torch.linalg.eigh(off_diagonal + off_diagonal.T)
    return (points + 1) / 2, vectors[0].square()


@lru_cache(maxsize=64)
def plan(
    levels: tuple[float, ...],
    predict: int,
    correct: int,
    step_weights: StepWeights = in_lambda,
    blend: float = 0.0,
) -> Plan:
    """All coefficients of a multistep sampler for the noise levels [K + 1].

    predict: the most predictions that a step uses. correct: predictions that the corrector uses, the new one included;
    0 for no corrector. blend: from the weights of `predict` predictions (0) to those of one fewer (1).
    """
    stages = []
    for index, (sigma, sigma_next) in enumerate(pairwise(levels)):
        past = levels[index::-1]  # newest first
        if sigma_next == 0:
            stages.append(Stage(sigma, 0.0, (), 0.0, (1.0,)))
            continue
        corrector_keep, corrections = 0.0, list[float]()
        if correct and index:
            corrector_keep, corrections = sigma / past[1], step_weights(past[:correct], past[1], sigma)
        predictions = step_weights(past[:predict], sigma, sigma_next)
        if blend and len(past) >= predict:
            lower = [*step_weights(past[: predict - 1], sigma, sigma_next), 0.0]
            predictions = [w + blend * (v - w) for w, v in zip(predictions, lower, strict=True)]
        stages.append(Stage(sigma, corrector_keep, tuple(corrections), sigma_next / sigma, tuple(predictions)))
    return tuple(stages)


# The plan of each multistep sampler for the noise levels [K + 1].
PLANS: dict[str, Callable[[tuple[float, ...]], Plan]] = {
    "unipc": lambda levels: plan(levels, 3, 3, in_log_flow, blend=0.5),
    "dpmpp_2m": lambda levels: plan(levels, 2, 0, midpoint),
    "deis_2": lambda levels: plan(levels, 2, 0),
    "deis_3": lambda levels: plan(levels, 3, 0),
    "deis_4": lambda levels: plan(levels, 4, 0),
    "euler": lambda levels: plan(levels, 1, 0),
    "ddim": lambda levels: plan(levels, 1, 0),
}

# Names in diffusion/names.py. "ddim" is another name of euler, "etdrk4" the usual name of the reference.
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
