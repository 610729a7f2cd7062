"""Blocks: the decoded pictures of one unit of work, in a few large arrays that processes exchange quickly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tintype.data.images.decode import Preprocess, examine_all
from tintype.data.images.facts import FACTS, facts_array, facts_row
from tintype.data.sources.files import ImageSource

_NO_FACTS = bytes(FACTS.itemsize)


class Block(NamedTuple):
    """The results for N consecutive pictures."""

    sha256: list[str]  # of each file; "" if it could not be read
    reasons: list[str]  # why each cannot be used; "" if it can
    facts: NDArray[Any]  # [N] of dtype FACTS; zeros where a picture cannot be used
    shapes: NDArray[np.int64]  # [N] index of its shape in `Preprocess.shapes`; -1 where it cannot be used
    notes: list[tuple[str, ...]]  # the conversions of each picture
    pixels: dict[int, NDArray[np.uint8]]  # by shape: the usable pictures, [N, 3, H, W]


def examine_block(sources: Sequence[ImageSource], preprocess: Preprocess, pixels: bool) -> Block:
    """Read, hash and decode pictures; with `pixels`, also crop and resize them."""
    pictures = examine_all(sources, preprocess, pixels)
    reasons = [picture.reason if picture.facts is None else "" for picture in pictures]
    facts = facts_array(b"".join(_NO_FACTS if p.facts is None else facts_row(p.facts) for p in pictures))
    shapes = [-1 if picture.facts is None else preprocess.shapes.index(picture.shape) for picture in pictures]
    by_shape: dict[int, list[NDArray[np.uint8]]] = {}
    for picture, shape in zip(pictures, shapes, strict=True):
        if picture.pixels is not None and shape >= 0:
            by_shape.setdefault(shape, []).append(picture.pixels)
    return Block(
        [picture.sha256 for picture in pictures],
        reasons,
        facts,
        np.array(shapes, dtype=np.int64),
        [() if picture.facts is None else picture.facts.notes for picture in pictures],
        {shape: np.stack(arrays) for shape, arrays in by_shape.items()},
    )
