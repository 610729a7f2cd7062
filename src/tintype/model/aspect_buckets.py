"""Aspect buckets: training shapes of about equally many tokens, so that little of any picture is cropped."""

from __future__ import annotations

import math
from functools import lru_cache

SPACING = 0.15  # between the logarithms of their aspect ratios, about
FULL = 0.85  # a shape has at least this fraction of the square's tokens


@lru_cache(64)
def bucket_shapes(resolution: int, patch: int, max_aspect: float) -> tuple[tuple[int, int], ...]:
    """Return shapes (height, width) in pixels, multiples of `patch`, from tall to wide, including the square.

    Each has at most the (resolution / patch)^2 tokens of the square, and at least 85 % of them (NovelAI 2022, "Aspect
    ratio bucketing"); none is longer than max_aspect to 1.
    """
    side = resolution // patch
    budget = side * side
    fullest: dict[int, tuple[int, int]] = {}  # by rounded logarithm of the aspect ratio
    for rows in range(side + 1, budget + 1):
        columns = budget // rows
        if rows > max_aspect * columns:
            break  # the aspect ratio only grows from here
        if rows * columns < FULL * budget:
            continue
        bucket = round(math.log(rows / columns) / SPACING)
        if rows * columns > math.prod(fullest.get(bucket, (0, 0))):
            fullest[bucket] = (rows, columns)
    tall = set(fullest.values())
    both = {(side, side)} | tall | {(columns, rows) for rows, columns in tall}
    return tuple(sorted(((rows * patch, columns * patch) for rows, columns in both), key=lambda s: (s[1] / s[0], s)))


def nearest_bucket(size: tuple[int, int], shapes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """Return the shape (height, width) with the aspect ratio nearest to that of `size` (width, height)."""
    if len(shapes) == 1:
        return shapes[0]
    aspect = math.log(size[0] / size[1])
    return min(shapes, key=lambda shape: (abs(math.log(shape[1] / shape[0]) - aspect), shape))
