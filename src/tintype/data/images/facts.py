"""Image facts as rows of numbers, and exact duplicates among them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tintype.data.images.decode import ImageFacts
from tintype.data.sources.row_file import Rows, sorted_by_key

# Field names are those in facts.npy of existing caches: `look` is the perceptual hash, `thumb` the color grid.
FACTS = np.dtype(
    [("sha256", "u1", (32,)), ("width", "<u4"), ("height", "<u4"), ("look", "<u8"), ("thumb", "u1", (48,))]
)
_HASHES = np.dtype([("key", "<u8"), ("index", "<i8"), ("sha256", "u1", (32,))])


def facts_row(facts: ImageFacts) -> bytes:
    """One row of dtype FACTS."""
    rest = struct.pack("<IIQ", facts.width, facts.height, facts.phash)
    return bytes.fromhex(facts.sha256) + rest + facts.color_grid


def facts_array(rows: bytes | bytearray) -> NDArray[Any]:
    """Rows of `facts_row`, end to end, as an array of dtype FACTS."""
    return np.frombuffer(rows, dtype=FACTS)


def hex_digests(sha256: NDArray[np.uint8]) -> list[str]:
    """Return hashes [N, 32] in hexadecimal."""
    text = sha256.tobytes().hex()
    return [text[start : start + 64] for start in range(0, len(text), 64)]


def exact_duplicates(facts: Rows) -> list[list[int]]:
    """Return groups of two or more equal files, as ascending indices into `facts`."""

    def keyed(start: int, chunk: NDArray[Any]) -> NDArray[Any]:
        rows = np.empty(len(chunk), dtype=_HASHES)
        rows["sha256"] = chunk["sha256"]
        rows["key"] = np.ascontiguousarray(chunk["sha256"][:, :8]).view("<u8")[:, 0]
        rows["index"] = np.arange(start, start + len(chunk))
        return rows

    groups: dict[bytes, list[int]] = {}
    for rows in sorted_by_key(facts, keyed):
        same = np.flatnonzero(rows["key"][1:] == rows["key"][:-1])
        for i in sorted({int(first) + step for first in same for step in (0, 1)}):
            groups.setdefault(rows["sha256"][i].tobytes(), []).append(int(rows["index"][i]))
    return sorted(group for group in groups.values() if len(group) > 1)
