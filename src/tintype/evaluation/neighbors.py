"""The nearest training picture of any picture, and how near is too near: an alarm calibrated on unseen pictures."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBORS = 20  # whose mean distance says how near is near where a picture lies
TOLERANCE = 1e-4  # of a squared length, that a squared distance may be off by in float32
FALSE_ALARM_RATE = 0.01  # of pictures that were never seen, of which an alarm is raised

PointBlocks = Callable[[], Iterator[Tensor]]


class Nearest(NamedTuple):
    """For each of Q pictures."""

    place: Tensor  # [Q] int64, of the nearest point
    distance: Tensor  # [Q] float64, root mean square over the D numbers
    relative: Tensor  # [Q] float64, to the mean distance of the nearest 20 (after 2301.13188 section 4.2)


def find_nearest(
    queries: Tensor, blocks: PointBlocks, own: Tensor | None = None, beside: Tensor | None = None
) -> Generator[int, None, Nearest]:
    """Find the nearest point of each query.

    queries: [Q, D] float32; blocks: all points, float32 [n, D] at a time; own: [Q], a point that a query may not find,
    because it is that point, or -1; beside: [Q, D], a point that this query alone finds beside the others (number -1),
    or nan. Yields how many points were gone through.
    """
    center, queries = queries.mean(0), queries - queries.mean(0)  # smaller numbers lose fewer digits
    squares = torch.empty(len(queries), 0)
    indices = torch.empty(len(queries), 0, dtype=torch.int64)
    closest = torch.full((len(queries),), torch.inf, dtype=torch.float64)
    beaten, slack = torch.full((len(queries),), torch.inf), TOLERANCE * queries.square().sum(1)
    if beside is not None:
        closest = (queries.double() - (beside - center).double()).square().mean(1).sqrt().nan_to_num(torch.inf)
        beaten = (closest.square() * queries.shape[1]).float()
        squares, indices = beaten[:, None], torch.full((len(queries), 1), -1)
    start = 0
    for block in blocks():
        points = block - center
        apart = queries.square().sum(1)[:, None] + points.square().sum(1) - 2 * (queries @ points.T)
        if own is not None:
            inside = (own >= start) & (own < start + len(block))
            apart[inside, own[inside] - start] = torch.inf
        best, place = apart.min(1)
        nearer = torch.isfinite(best) & (best <= beaten + slack)  # of these alone the distance is taken exactly
        exact = (queries[nearer].double() - points[place[nearer]].double()).square().mean(1).sqrt()
        closest[nearer] = torch.minimum(closest[nearer], exact)
        beaten = torch.minimum(beaten, best)
        kept = min(NEIGHBORS, squares.shape[1] + len(block))
        numbers = torch.arange(start, start + len(block)).expand_as(apart)
        squares, order = torch.cat([squares, apart], 1).topk(kept, largest=False)
        indices = torch.cat([indices, numbers], 1).gather(1, order)
        start += len(block)
        yield len(block)
    there = torch.isfinite(squares)
    away = (squares.double().clamp(min=0) / queries.shape[1]).sqrt()
    around = torch.where(there, away, 0.0).sum(1) / there.sum(1).clamp(min=1)
    relative = torch.where(closest > 0, closest / around.clamp(min=1e-12), 0.0).clamp(max=1.0)
    return Nearest(indices[:, 0], closest, relative)


class Alarm(NamedTuple):
    """Pictures nearer than one of two limits are called near copies."""

    pixels: float  # limits of the relative distance; below any distance where no alarm can be raised
    features: float
    rate: float  # of unseen pictures that it is raised for
    num: int  # unseen pictures that it was calibrated on

    def raised(self, pixels: Tensor, features: Tensor) -> Tensor:
        """For which of Q pictures: bool [Q], from their relative distances."""
        return (pixels <= self.pixels) | (features <= self.features)


def calibrate_alarm(pixels: Tensor, features: Tensor, rate: float = FALSE_ALARM_RATE) -> Alarm:
    """Set the limits so that of unseen pictures, whose relative distances [N] are given, `rate` raise an alarm.

    Both limits lie at the same rank, and as high as the two together may: a conformal test (Vovk 2005) of the smaller
    of two ranks. With fewer than 1 / rate pictures the alarm is only for what is nearer than all of them.
    """
    num = len(pixels)
    allowed = int(rate * (num + 1))
    near, alike = pixels.double().sort().values, features.double().sort().values
    found = Alarm(-1.0, -1.0, 0.0, num)
    for rank in range(allowed):
        alarm = Alarm(float(near[rank]), float(alike[rank]), 0.0, num)
        raised = int(alarm.raised(pixels, features).sum())
        if raised > allowed:
            break
        found = alarm._replace(rate=raised / num)
    if found.pixels < 0 and num:  # nearer than any unseen picture
        below = torch.tensor([float(near[0]), float(alike[0])], dtype=torch.float64)
        lower = torch.nextafter(below, torch.full_like(below, -torch.inf))
        found = Alarm(float(lower[0]), float(lower[1]), 0.0, num)
    return found
