"""A picture index: training pictures as small descriptors, searched for the nearest to any picture.

A copy by a model is rarely the same pixels: it is blurred and noisy, its colors drift, it may be mirrored or shifted.
The descriptor is therefore the picture at 16 x 16 pixels, each color with its mean taken away and divided by its
deviation, which no brightness, contrast or tint changes; and a query is compared in 50 views: mirrored or not, and
shifted by up to a sixteenth each way. The distance to the nearest picture is taken relative to the mean of the nearest
20 (Carlini et al. 2023, arXiv 2301.13188, section 4.2), for plain pictures lie near many others.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 16  # pixels of a descriptor
NEIGHBORS = 20  # nearest pictures, whose mean distance is the scale of relative distances
FLAT = 0.05  # standard deviation in [-1, 1] below which contrast is not raised to that of other pictures
COARSE = 18  # views that all pictures are compared with; the others only with the nearest 20
MAX_COMPARED, MAX_QUERIES = 2**23, 256  # distances and queries held at once: bounds memory
ALMOST = 1e-3  # distance below which rounding of float32 decides: counts as none


class Nearest(NamedTuple):
    """The nearest training picture of each of Q pictures."""

    indices: Tensor  # [Q] int64; -1 where it is the further picture of that query
    distance: Tensor  # [Q] float32, root mean square difference of descriptors: 0 is the same, unrelated ones about 1.4
    relative: Tensor  # [Q] float32 in [0, 1], to the mean distance of the nearest 20


class Ranking(NamedTuple):
    """The nearest training pictures of each of Q pictures, at most 20, nearest first."""

    indices: Tensor  # [Q, n] int64
    distance: Tensor  # [Q, n] float32


class PictureIndex:
    """Training pictures, by their place in the order they were given in."""

    def __init__(self, thumbnails: Tensor) -> None:
        """thumbnails: uint8 [N, 3, 16, 16], N at least 1."""
        if not len(thumbnails):
            raise ValueError("an index needs pictures")
        self.thumbnails = thumbnails
        self._points = _descriptors(thumbnails)  # [N, 768]
        self._squares = self._points.square().sum(1)

    @classmethod
    def of(cls, blocks: Iterable[Tensor]) -> PictureIndex:
        """The index of all pictures in blocks uint8 [n, 3, H, W], of any size."""
        return cls(torch.cat([thumbnails(block) for block in blocks]))

    def __len__(self) -> int:
        return len(self.thumbnails)

    @torch.no_grad()
    def nearest(self, pictures: Tensor, excluded: Tensor | None = None, further: Tensor | None = None) -> Nearest:
        """Find the nearest training picture of each of `pictures`, uint8 [Q, 3, H, W] of any size.

        excluded: [Q], the index of a picture that a query passes over because it is that very picture, or -1. further:
        uint8 [Q, 3, H, W], one more picture for each query alone. Takes 14,000 multiplications a query and picture.
        """
        step = max(1, min(MAX_QUERIES, MAX_COMPARED // len(self)))
        parts = [
            self._nearest(
                pictures[start : start + step],
                None if excluded is None else excluded[start : start + step],
                None if further is None else further[start : start + step],
            )
            for start in range(0, len(pictures), step)
        ]
        if not parts:
            return Nearest(torch.empty(0, dtype=torch.int64), torch.empty(0), torch.empty(0))
        return Nearest(*(torch.cat(column) for column in zip(*parts, strict=True)))

    @torch.no_grad()
    def ranked(self, pictures: Tensor) -> Ranking:
        """The nearest training pictures of each of a few `pictures`, uint8 [Q, 3, H, W] of any size."""
        return self._ranked(pictures, None, None)

    @torch.no_grad()
    def levels_apart(self, pictures: Tensor, indices: Tensor) -> Tensor:
        """How much pictures uint8 [Q, 3, H, W] differ in pixels from the training pictures at `indices` [Q]: [Q].

        Root mean square of 16 x 16 pixels in the best view, in levels of 255.
        """
        apart = []
        for start in range(0, len(pictures), MAX_QUERIES):
            rows = slice(start, start + MAX_QUERIES)
            others = self.thumbnails[indices[rows]].float()
            squares = [(view - others).square().mean((1, 2, 3)) for view in views(pictures[rows])]
            apart.append(torch.stack(squares).amin(0).sqrt())
        return torch.cat(apart) if apart else torch.empty(0)

    @torch.no_grad()
    def plain_relative(self, pictures: Tensor) -> Tensor:
        """Relative distances [Q] of pictures [Q, 3, H, W] of any size, 0 to 255, compared in no view but their own.

        Takes 768 multiplications a query and picture: for pictures that are looked at again and again.
        """
        queries = _descriptors(F.interpolate(pictures.float(), size=(SIDE, SIDE), mode="area"))
        own = queries.square().sum(1, keepdim=True)
        squares = torch.addmm(own + self._squares, queries, self._points.T, alpha=-2)
        distances = squares.topk(min(NEIGHBORS, len(self)), largest=False).values.clamp(min=0).sqrt()
        return distances[:, 0] / distances.mean(1).clamp(min=ALMOST)

    def _nearest(self, pictures: Tensor, excluded: Tensor | None, further: Tensor | None) -> Nearest:
        near, distances = self._ranked(pictures, excluded, further)
        is_point = torch.isfinite(distances)
        scale = torch.where(is_point, distances, 0.0).sum(1) / is_point.sum(1).clamp(min=1)
        distance = torch.where(distances[:, 0] < ALMOST, 0.0, distances[:, 0])
        relative = torch.where(distance > 0, distance / scale.clamp(min=ALMOST), 0.0).clamp(max=1.0)
        return Nearest(near[:, 0], distance, relative)

    def _ranked(self, pictures: Tensor, excluded: Tensor | None, further: Tensor | None) -> Ranking:
        seen = views(pictures)
        squares = torch.full((len(pictures), len(self)), torch.inf)  # smallest over the coarse views
        for view in seen[:COARSE]:
            queries = _descriptors(view)
            own = queries.square().sum(1, keepdim=True)
            squares = torch.minimum(squares, torch.addmm(own + self._squares, queries, self._points.T, alpha=-2))
        if excluded is not None:
            rows = torch.nonzero(excluded >= 0)[:, 0]
            squares[rows, excluded[rows]] = torch.inf
        squares, near = squares.topk(min(NEIGHBORS, len(self)), largest=False)
        points = self._points[near]  # [Q, n, 768]
        if further is not None:
            near = torch.cat([torch.full((len(near), 1), -1), near], 1)
            points = torch.cat([_descriptors(thumbnails(further))[:, None], points], 1)
        queries = torch.stack([_descriptors(view) for view in seen], 1)  # [Q, 50, 768]
        products = queries.square().sum(2)[:, :, None] - 2 * (queries @ points.mT)
        exact = (products.amin(1) + points.square().sum(2)).clamp(min=0) / points.shape[2]
        if excluded is not None:
            exact[(near == excluded[:, None]) & (near >= 0)] = torch.inf
        distances, order = exact.sqrt().sort(1)
        return Ranking(near.gather(1, order)[:, :NEIGHBORS], distances[:, :NEIGHBORS])


def thumbnails(pictures: Tensor, side: int = SIDE) -> Tensor:
    """Pictures uint8 [N, 3, H, W] of any size as uint8 [N, 3, side, side]."""
    if tuple(pictures.shape[-2:]) == (side, side):
        return pictures
    return F.interpolate(pictures.float(), size=(side, side), mode="area").round().to(torch.uint8)


def views(pictures: Tensor) -> list[Tensor]:
    """The 50 views of pictures uint8 [Q, 3, H, W]: mirrored or not, shifted by up to a sixteenth each way.

    Shifts are multiples of half a pixel of the 16 x 16 that are returned, [Q, 3, 16, 16] float32; those of whole pixels
    come first. Border pixels are repeated where a shift uncovers nothing.
    """
    fine = thumbnails(pictures, 2 * SIDE).float()
    mirrors = [F.pad(picture, (2,) * 4, mode="replicate") for picture in (fine, fine.flip(-1))]
    shifts = sorted(product(range(5), range(5)), key=lambda shift: (shift[0] % 2 + shift[1] % 2 > 0, shift))
    windows = [
        wide[:, :, down : down + 2 * SIDE, right : right + 2 * SIDE]
        for whole in (True, False)
        for wide in mirrors
        for down, right in shifts[slice(9) if whole else slice(9, 25)]
    ]
    return [F.avg_pool2d(window, 2) for window in windows]


def _descriptors(small: Tensor) -> Tensor:
    """[N, 3, 16, 16], 0 to 255 -> [N, 768] float32."""
    x = small.float() / 127.5
    x = x - x.mean((2, 3), keepdim=True)
    return (x / (x.square().mean((2, 3), keepdim=True).sqrt() + FLAT)).flatten(1)
