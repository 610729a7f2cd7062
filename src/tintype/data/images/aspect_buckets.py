"""Shapes that pictures are trained at: about equally many tokens each, so that little of any picture is cut off."""

from __future__ import annotations

import math

SPACING = 0.15  # between the logarithms of their proportions, about
FULL = 0.85  # a shape has at least this share of the tokens of the square


def bucket_shapes(resolution: int, patch: int, max_aspect: float) -> tuple[tuple[int, int], ...]:
    """Shapes (height, width) in pixels, multiples of `patch`, from tall to wide, the square among them.

    Each has at most the (resolution / patch)^2 tokens of the square, and at least 85 % of them (NovelAI 2022, "Aspect
    ratio bucketing"); none is longer than max_aspect to 1.
    """
    side = resolution // patch
    budget = side * side
    fullest: dict[int, tuple[int, int]] = {}  # by about their proportions
    for rows in range(side + 1, budget + 1):
        columns = budget // rows
        if rows > max_aspect * columns or rows * columns < FULL * budget:
            continue
        place = round(math.log(rows / columns) / SPACING)
        if rows * columns > math.prod(fullest.get(place, (0, 0))):
            fullest[place] = (rows, columns)
    tall = set(fullest.values())
    both = {(side, side)} | tall | {(columns, rows) for rows, columns in tall}
    return tuple(sorted(((rows * patch, columns * patch) for rows, columns in both), key=lambda s: (s[1] / s[0], s)))


def nearest_bucket(size: tuple[int, int], shapes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The shape (height, width) whose proportions are nearest to those of a picture of `size` (width, height)."""
    if len(shapes) == 1:
        return shapes[0]
    aspect = math.log(size[0] / size[1])
    return min(shapes, key=lambda shape: (abs(math.log(shape[1] / shape[0]) - aspect), shape))
