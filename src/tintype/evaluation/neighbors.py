"""Nearest neighbors among training pictures, and an alarm for near copies that is calibrated on unseen pictures."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBORS = 20  # nearest points, whose mean distance is the scale of relative distances
TOLERANCE = 1e-4  # float32 error of a squared distance, relative to the squared length of the query
FALSE_ALARM_RATE = 0.01  # share of unseen pictures that may raise the alarm

PointBlocks = Callable[[], Iterator[Tensor]]


class Nearest(NamedTuple):
    """The nearest point of each of Q queries."""

    indices: Tensor  # [Q] int64
    distance: Tensor  # [Q] float64, root mean square over the D numbers
    relative: Tensor  # [Q] float64, to the mean distance of the nearest 20 (Carlini et al. 2023, arXiv 2301.13188, 4.2)


def find_nearest(
    queries: Tensor, blocks: PointBlocks, excluded: Tensor | None = None, extra: Tensor | None = None
) -> Generator[int, None, Nearest]:
    """Find the nearest point of each query.

    queries: [Q, D] float32. blocks: all points, in blocks [n, D] float32. excluded: [Q], the index of one point that a
    query skips, because it is that very picture, or -1. extra: [Q, D], one further point for each query alone (index
    -1), or NaN. Yields the number of points just compared.
    """
    center, queries = queries.mean(0), queries - queries.mean(0)  # smaller numbers lose fewer digits
    squares = torch.empty(len(queries), 0)
    indices = torch.empty(len(queries), 0, dtype=torch.int64)
    closest = torch.full((len(queries),), torch.inf, dtype=torch.float64)
    bound, slack = torch.full((len(queries),), torch.inf), TOLERANCE * queries.square().sum(1)
    if extra is not None:
        closest = (queries.double() - (extra - center).double()).square().mean(1).sqrt().nan_to_num(torch.inf)
        bound = (closest.square() * queries.shape[1]).float()
        squares, indices = bound[:, None], torch.full((len(queries), 1), -1)
    start = 0
    for block in blocks():
        points = block - center
        block_squares = queries.square().sum(1)[:, None] + points.square().sum(1) - 2 * (queries @ points.T)
        if excluded is not None:
            inside = (excluded >= start) & (excluded < start + len(block))
            block_squares[inside, excluded[inside] - start] = torch.inf
        best, column = block_squares.min(1)
        nearer = torch.isfinite(best) & (best <= bound + slack)  # only for these is the distance computed exactly
        exact = (queries[nearer].double() - points[column[nearer]].double()).square().mean(1).sqrt()
        closest[nearer] = torch.minimum(closest[nearer], exact)
        bound = torch.minimum(bound, best)
        num_kept = min(NEIGHBORS, squares.shape[1] + len(block))
        block_indices = torch.arange(start, start + len(block)).expand_as(block_squares)
        squares, order = torch.cat([squares, block_squares], 1).topk(num_kept, largest=False)
        indices = torch.cat([indices, block_indices], 1).gather(1, order)
        start += len(block)
        yield len(block)
    is_point = torch.isfinite(squares)
    distances = (squares.double().clamp(min=0) / queries.shape[1]).sqrt()
    scale = torch.where(is_point, distances, 0.0).sum(1) / is_point.sum(1).clamp(min=1)
    relative = torch.where(closest > 0, closest / scale.clamp(min=1e-12), 0.0).clamp(max=1.0)
    return Nearest(indices[:, 0], closest, relative)


class Alarm(NamedTuple):
    """Two limits of the relative distance; a picture below either of them is a near copy."""

    pixels: float  # negative: never raised
    features: float
    rate: float  # share of unseen pictures that raise it
    num: int  # unseen pictures that it was calibrated on

    def raised(self, pixels: Tensor, features: Tensor) -> Tensor:
        """Which of Q pictures raise the alarm: bool [Q], from their relative distances."""
        return (pixels <= self.pixels) | (features <= self.features)


def calibrate_alarm(pixels: Tensor, features: Tensor, rate: float = FALSE_ALARM_RATE) -> Alarm:
    """Set the limits so that a share `rate` of unseen pictures, given by relative distances [N], raises the alarm.

    Both limits have the same rank, as high as the rate permits: a conformal test (Vovk et al. 2005) of the smaller of
    two ranks. With fewer than 1 / rate pictures, only pictures nearer than all of them raise the alarm.
    """
    num = len(pixels)
    allowed = int(rate * (num + 1))
    by_pixels, by_features = pixels.double().sort().values, features.double().sort().values
    alarm = Alarm(-1.0, -1.0, 0.0, num)
    for rank in range(allowed):
        candidate = Alarm(float(by_pixels[rank]), float(by_features[rank]), 0.0, num)
        num_raised = int(candidate.raised(pixels, features).sum())
        if num_raised > allowed:
            break
        alarm = candidate._replace(rate=num_raised / num)
    if alarm.pixels < 0 and num:  # nearer than any unseen picture
        nearest = torch.tensor([float(by_pixels[0]), float(by_features[0])], dtype=torch.float64)
        below = torch.nextafter(nearest, torch.full_like(nearest, -torch.inf))
        alarm = Alarm(float(below[0]), float(below[1]), 0.0, num)
    return alarm
