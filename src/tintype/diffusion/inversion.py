"""Inversion: from a picture to the noise from which `euler` makes it.

A step of `euler` from sigma to sigma_next is x_next = keep x + (1 - keep) denoised(x, sigma), with keep = sigma_next /
sigma. Undoing the step means finding the x that leads to a known x_next. DDIM inversion approximates it with the
prediction at x_next. Here the equation x = (x_next - (1 - keep) denoised(x)) / keep is solved, so that a round trip
returns the same picture to the last digits, however few the steps (as in arXiv 2311.15657). With a perfect denoiser,
whose Jacobian is a covariance, there is always exactly one solution.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from tintype.diffusion.sigmas import per_sample
from tintype.diffusion.solver import Coroutine, Query, Randn, combine, levels_of, query

MAX_EVALUATIONS = 40  # in one step
HISTORY = 5  # iterates that Anderson mixing combines
TOLERANCE = 3e-5  # of the residual, in units of the noise level, root mean square over a picture


def invert(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Run `euler` backwards: from x at the last noise level, above 0, to the x at the first level that leads there.

    Queries once at the start, then until every picture of a step is solved. Raises ValueError for noise levels that end
    in 0, where every noise is a solution.
    """
    levels = levels_of(sigmas)
    if levels[-1] == 0:
        raise ValueError("noise levels for inversion must end above 0")
    denoised = yield query(x, levels[-1])
    for sigma_next, sigma in pairwise(reversed(levels)):
        x, denoised = yield from _undo(x, denoised, sigma_next, sigma)
    return x


def _undo(
    x_next: Tensor, denoised: Tensor, sigma_next: float, sigma: float
) -> Generator[Query, Tensor, tuple[Tensor, Tensor]]:
    """The x at sigma that a step of `euler` leads to `x_next`, and its prediction.

    denoised: a first guess of that prediction. A picture that has converged stays as it is, so that no picture depends
    on the others in its batch.
    """
    keep = sigma_next / sigma
    x = best = combine(x_next, 1 / keep, [1 - 1 / keep], [denoised])
    best_residual = torch.zeros_like(x)  # x_next minus the step from `best`, rescaled
    lowest, damping = (torch.full((len(x),), start, device=x.device) for start in (torch.inf, 1.0))
    iterates, residuals = list[Tensor](), list[Tensor]()
    for _ in range(MAX_EVALUATIONS):
        prediction = yield query(x, sigma)
        iterates = [*iterates[1 - HISTORY :], x]
        residuals = [*residuals[1 - HISTORY :], combine(x_next, 1 / keep, [1 - 1 / keep, -1.0], [prediction, x])]
        error = residuals[-1].flatten(1).square().mean(1).sqrt() / sigma
        better = per_sample(error < lowest, x).bool()
        best, denoised, best_residual = (
            torch.where(better, *pair) for pair in ((x, best), (prediction, denoised), (residuals[-1], best_residual))
        )
        diverged = error > 2 * lowest  # back to the best iterate, then in ever smaller steps
        lowest = torch.minimum(lowest, error)
        converged = lowest <= TOLERANCE
        if bool(converged.all()):
            break
        damping = torch.where(diverged, damping / 2, damping)
        damped = best + per_sample(damping * ~converged, x) * best_residual
        x = torch.where(per_sample(converged | diverged, x).bool(), damped, _next_iterate(iterates, residuals))
    return best, denoised


def _next_iterate(iterates: Sequence[Tensor], residuals: Sequence[Tensor]) -> Tensor:
    """The next iterate: Anderson mixing (Anderson 1965) of the last ones, for each picture [B, ...].

    One step on from the mixture whose residual would be smallest if residuals were linear.
    """
    x, last = iterates[-1], residuals[-1]
    if len(iterates) == 1:
        return x + last
    moves = [(b - a, d - c) for (a, b), (c, d) in zip(pairwise(iterates), pairwise(residuals), strict=True)]
    changes = torch.stack([change.flatten(1).double() for _, change in moves], dim=1)  # [B, iterates - 1, C H W]
    squares = (changes[:, :, None] * changes[:, None]).sum(-1)
    # An iterate that changes nothing any more must not make the equations singular.
    squares += torch.diag_embed(1e-10 * squares.diagonal(dim1=1, dim2=2) + 1e-30)
    weights = torch.linalg.solve(squares, (changes * last.flatten(1).double()[:, None]).sum(-1))
    total = x + last
    for index, (move, change) in enumerate(moves):
        total = total - per_sample(weights[:, index], x) * (move + change)
    return total
