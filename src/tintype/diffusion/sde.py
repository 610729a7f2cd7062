"""Samplers that add fresh noise on the way: slower to converge, and forgiving of a network's errors."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from tintype.diffusion.coroutine import Coroutine, Randn, Sampler, combine, levels_of, query
from tintype.diffusion.ode import heun_step

CHURN = 40.0  # EDM, 2206.00364 table 5: noise added in all, in units of the steps
CHURN_LEVELS = (0.05, 50.0)  # noise levels between which it is added
CHURN_SCALE = 1.003  # a little more than is right, against the network's habit of taking off too much


def ddpm(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """First order: a step draws from the posterior of DDPM (2006.11239 eq. 6-7) at x0 = denoised.

    Also known as Euler ancestral. Raises ValueError without randn.
    """
    randn = _needed(randn)
    for index, (sigma, sigma_next) in enumerate(pairwise(levels_of(sigmas))):
        denoised = yield query(x, sigma)
        if sigma_next == 0:
            return denoised
        keep = (sigma_next / sigma) ** 2
        x = combine(x, keep, [1 - keep, sigma_next * math.sqrt(1 - keep)], [denoised, randn(index)])
    return x


def dpmpp_2m_sde(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Second order in `denoised`, one evaluation per step: DPM-Solver++(2M) for the diffusion SDE (2211.01095 sec. 5).

    With the answer before it left out this is `ddpm`. Raises ValueError without randn.
    """
    randn, before, h_before = _needed(randn), x, math.inf
    for index, (sigma, sigma_next) in enumerate(pairwise(levels_of(sigmas))):
        denoised = yield query(x, sigma)
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        keep, share = (sigma_next / sigma) ** 2, h / h_before / 2
        weights = [(1 - keep) * (1 + share), (keep - 1) * share, sigma_next * math.sqrt(1 - keep)]
        x = combine(x, keep, weights, [denoised, before, randn(index)])
        before, h_before = denoised, h
    return x


def heun_churn(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """`heun`, with a little noise put on before every step within CHURN_LEVELS (EDM, 2206.00364 algorithm 2).

    Raises ValueError without randn.
    """
    randn, levels = _needed(randn), levels_of(sigmas)
    churn = min(CHURN / (len(levels) - 1), math.sqrt(2) - 1)
    for index, (sigma, sigma_next) in enumerate(pairwise(levels)):
        if CHURN_LEVELS[0] <= sigma <= CHURN_LEVELS[1]:
            raised = sigma * (1 + churn)
            x = combine(x, 1.0, [CHURN_SCALE * math.sqrt(raised**2 - sigma**2)], [randn(index)])
            sigma = raised
        x = yield from heun_step(x, sigma, sigma_next)
    return x


def _needed(randn: Randn | None) -> Randn:
    if randn is None:
        raise ValueError("this sampler adds noise: pass randn, a function from the number of a draw to noise like x")
    return randn


SAMPLERS: dict[str, Sampler] = {  # names in diffusion/names.py
    "ddpm": ddpm,
    "euler_ancestral": ddpm,
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "heun_churn": heun_churn,
}
