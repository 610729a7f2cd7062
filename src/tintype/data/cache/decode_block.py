"""What becomes of some pictures of a pack, in few pieces, so that one process can hand it quickly to another."""

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
    """What became of N pictures in a row."""

    sha256: list[str]  # of each file; "" if it could not be read
    reasons: list[str]  # why each cannot be used; "" if it can
    facts: NDArray[Any]  # [N] of dtype FACTS; zeros where a picture cannot be used
    shapes: NDArray[np.int64]  # [N] index of its shape in `Preprocess.shapes`; -1 where it cannot be used
    notes: list[tuple[str, ...]]  # what was done to each
    pixels: dict[int, NDArray[np.uint8]]  # by shape, of those that can be used: [n, 3, height, width]


def examine_block(sources: Sequence[ImageSource], preprocess: Preprocess, pixels: bool) -> Block:
    """Read, hash, decode and, with `pixels`, fit some pictures."""
    seen = examine_all(sources, preprocess, pixels)
    reasons = [one.reason if one.facts is None else "" for one in seen]
    facts = facts_array(b"".join(_NO_FACTS if one.facts is None else facts_row(one.facts) for one in seen))
    shapes = [-1 if one.facts is None else preprocess.shapes.index(one.shape) for one in seen]
    by_shape: dict[int, list[NDArray[np.uint8]]] = {}
    for one, shape in zip(seen, shapes, strict=True):
        if one.pixels is not None and shape >= 0:
            by_shape.setdefault(shape, []).append(one.pixels)
    return Block(
        [one.sha256 for one in seen],
        reasons,
        facts,
        np.array(shapes, dtype=np.int64),
        [() if one.facts is None else one.facts.notes for one in seen],
        {shape: np.stack(some) for shape, some in by_shape.items()},
    )
