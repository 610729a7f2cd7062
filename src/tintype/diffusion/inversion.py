"""The way back: from a picture to the noise that `euler` makes it of.

A step of `euler` from sigma to sigma_next is x_next = keep x + (1 - keep) denoised(x, sigma), with keep = sigma_next /
sigma. To undo it is to find the x that it carries to a known x_next. Stepping the other way with what the network says
at x_next, as DDIM inversion does, is a guess; here x = (x_next - (1 - keep) denoised(x)) / keep is solved, so that the
way there and back is the same to the last digits, however few the steps (as in 2311.15657). With a perfect denoiser,
whose Jacobian is a covariance, there is always just one solution.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from tintype.diffusion.coroutine import Coroutine, Query, Randn, combine, levels_of, query
from tintype.diffusion.sigmas import per_sample

MAX_ROUNDS = 40  # evaluations a step, at most
REMEMBERED = 5  # tries that the next one is made of
TOLERANCE = 3e-5  # of what is missed, in units of the noise level, root mean square over a picture


def invert(x: Tensor, sigmas: Tensor, randn: Randn | None = None) -> Coroutine:
    """Run `euler` backwards: from x at the last noise level, above 0, to the x at the first level that leads there.

    Queries once at the start, then until every picture of a step is solved. Raises ValueError for noise levels that end
    in 0: there every noise would do.
    """
    levels = levels_of(sigmas)
    if levels[-1] == 0:
        raise ValueError("a schedule to invert on must end above 0")
    denoised = yield query(x, levels[-1])
    for sigma_next, sigma in pairwise(reversed(levels)):
        x, denoised = yield from _undo(x, denoised, sigma_next, sigma)
    return x


def _undo(
    after: Tensor, denoised: Tensor, sigma_next: float, sigma: float
) -> Generator[Query, Tensor, tuple[Tensor, Tensor]]:
    """The x at sigma that a step of `euler` carries to `after`, and what is denoised there.

    denoised: about what it is, to begin with. A picture that is found is not touched any more, so that no picture
    depends on its company.
    """
    keep = sigma_next / sigma
    x = best = combine(after, 1 / keep, [1 - 1 / keep], [denoised])
    rest = torch.zeros_like(x)  # what `best` misses
    least, caution = (torch.full((len(x),), start, device=x.device) for start in (torch.inf, 1.0))
    tried, missed = list[Tensor](), list[Tensor]()
    for _ in range(MAX_ROUNDS):
        answer = yield query(x, sigma)
        tried = [*tried[1 - REMEMBERED :], x]
        missed = [*missed[1 - REMEMBERED :], combine(after, 1 / keep, [1 - 1 / keep, -1.0], [answer, x])]
        error = missed[-1].flatten(1).square().mean(1).sqrt() / sigma
        better = per_sample(error < least, x).bool()
        best, denoised, rest = (
            torch.where(better, *pair) for pair in ((x, best), (answer, denoised), (missed[-1], rest))
        )
        astray = error > 2 * least  # too far: back to the best try, and on from there in ever smaller steps
        least = torch.minimum(least, error)
        found = least <= TOLERANCE
        if bool(found.all()):
            break
        caution = torch.where(astray, caution / 2, caution)
        careful = best + per_sample(caution * ~found, x) * rest
        x = torch.where(per_sample(found | astray, x).bool(), careful, _next_try(tried, missed))
    return best, denoised


def _next_try(tried: Sequence[Tensor], missed: Sequence[Tensor]) -> Tensor:
    """Where next to look for the x that misses nothing: Anderson mixing (1965) of all tries, for each picture [B, ...].

    In the mixture of tries that would miss least if what is missed were linear, one step on.
    """
    x, last = tried[-1], missed[-1]
    if len(tried) == 1:
        return x + last
    moves = [(b - a, d - c) for (a, b), (c, d) in zip(pairwise(tried), pairwise(missed), strict=True)]
    changes = torch.stack([change.flatten(1).double() for _, change in moves], dim=1)  # [B, tries - 1, C H W]
    squares = (changes[:, :, None] * changes[:, None]).sum(-1)
    # A try that changes nothing any more must not make the equations singular.
    squares += torch.diag_embed(1e-10 * squares.diagonal(dim1=1, dim2=2) + 1e-30)
    shares = torch.linalg.solve(squares, (changes * last.flatten(1).double()[:, None]).sum(-1))
    total = x + last
    for place, (move, change) in enumerate(moves):
        total = total - per_sample(shares[:, place], x) * (move + change)
    return total
