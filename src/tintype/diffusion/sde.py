"""Stochastic samplers: they add fresh noise on the way, converge more slowly, and tolerate errors of the network."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from tintype.diffusion.ode import heun_step
from tintype.diffusion.solver import Coroutine, Randn, Sampler, combine, levels_of, query

CHURN = 40.0  # S_churn of Karras et al. 2022, arXiv 2206.00364, table 5: noise added in all, in units of the steps
CHURN_LEVELS = (0.05, 50.0)  # noise levels between which noise is added
CHURN_SCALE = 1.003  # S_noise: a little more than exact, since networks remove slightly too much


def ddpm(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """First order: a step draws from the DDPM posterior at x0 = denoised (Ho et al. 2020, arXiv 2006.11239, eq. 6-7).

    Also known as Euler ancestral. Raises ValueError without randn.
    """
    randn = _require_randn(randn)
    for index, (sigma, sigma_next) in enumerate(pairwise(levels_of(sigmas))):
        denoised = yield query(x, sigma)
        if sigma_next == 0:
            return denoised
        keep = (sigma_next / sigma) ** 2
        x = combine(x, keep, [1 - keep, sigma_next * math.sqrt(1 - keep)], [denoised, randn(index)])
    return x


def dpmpp_2m_sde(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Second order in `denoised`, one evaluation per step: DPM-Solver++(2M) for the diffusion SDE (Lu et al. 2022,
    arXiv 2211.01095, section 5).

    Without the previous prediction it is `ddpm`. Raises ValueError without randn.
    """
    randn, previous, h_previous = _require_randn(randn), x, math.inf
    for index, (sigma, sigma_next) in enumerate(pairwise(levels_of(sigmas))):
        denoised = yield query(x, sigma)
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        keep, ratio = (sigma_next / sigma) ** 2, h / h_previous / 2
        weights = [(1 - keep) * (1 + ratio), (keep - 1) * ratio, sigma_next * math.sqrt(1 - keep)]
        x = combine(x, keep, weights, [denoised, previous, randn(index)])
        previous, h_previous = denoised, h
    return x


def heun_churn(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """`heun`, with a little noise added before every step within CHURN_LEVELS (Karras et al. 2022, arXiv 2206.00364,
    algorithm 2).

    Raises ValueError without randn.
    """
    randn, levels = _require_randn(randn), levels_of(sigmas)
    churn = min(CHURN / (len(levels) - 1), math.sqrt(2) - 1)
    for index, (sigma, sigma_next) in enumerate(pairwise(levels)):
        if CHURN_LEVELS[0] <= sigma <= CHURN_LEVELS[1]:
            raised = sigma * (1 + churn)
            x = combine(x, 1.0, [CHURN_SCALE * math.sqrt(raised**2 - sigma**2)], [randn(index)])
            sigma = raised
        x = yield from heun_step(x, sigma, sigma_next)
    return x


def _require_randn(randn: Randn | None) -> Randn:
    if randn is None:
        raise ValueError("this sampler adds noise: pass randn, a function from the number of a draw to noise like x")
    return randn


SAMPLERS: dict[str, Sampler] = {  # names in diffusion/names.py
    "ddpm": ddpm,
    "euler_ancestral": ddpm,
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "heun_churn": heun_churn,
}
