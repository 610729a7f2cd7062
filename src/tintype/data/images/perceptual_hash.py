"""Perceptual hashes, and groups of near-duplicates whose hashes nearly agree."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tintype.data.sources.row_file import Rows, sorted_by_key

SIDE = 32  # pixels; smallest shorter side of the thumbnail that is hashed
KEPT = 8  # lowest frequencies each way: 64 bits
GRID = 4  # pixels; side of the color grid
FLAT = 1.0  # gray levels; all frequencies below it: the picture has no structure to hash
BITS_APART = 4  # of 64, in which near-duplicates may differ
LEVELS_APART = 6.0  # of 255, root mean square, by which their color grids may differ
_BANDS = BITS_APART + 1  # of the hash: two hashes that differ in 4 bits agree in one of 5 bands
_WIDTH = -(-64 // _BANDS)  # bits of a band; the last has fewer
_REACH = 48  # neighbors in a band that are compared: bounds the time where very many agree
_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)  # bits set in each byte
_BANDED = np.dtype([("key", "<u8"), ("index", "<i8"), ("thumb", "u1", (48,))])
NOTHING = np.zeros((1, 1, 3), dtype=np.uint8)  # in place of a thumbnail


def thumbnail(picture: Image.Image) -> NDArray[np.uint8]:
    """Box-average a picture in mode RGB to 32 pixels or a little more on each side: uint8 [H, W, 3]."""
    factors = (max(1, picture.width // SIDE), max(1, picture.height // SIDE))
    reduced = picture if factors == (1, 1) else picture.reduce(factors)
    return np.frombuffer(reduced.tobytes(), dtype=np.uint8).reshape(reduced.height, reduced.width, 3)


def perceptual_hash(picture: Image.Image) -> tuple[int, bytes]:
    """Hash and color grid of one picture in mode RGB: see `perceptual_hashes`."""
    return perceptual_hashes([thumbnail(picture)])[0]


def perceptual_hashes(thumbnails: Sequence[NDArray[np.uint8]]) -> list[tuple[int, bytes]]:
    """Return a 64-bit hash (low DCT frequencies against their median; Zauner 2010) and a color grid (4 x 4 RGB bytes).

    thumbnails: of `thumbnail`. The hash of a picture without structure is 0.
    """
    hashed: list[tuple[int, bytes]] = [(0, b"")] * len(thumbnails)
    by_size: dict[tuple[int, ...], list[int]] = {}
    for number, array in enumerate(thumbnails):
        by_size.setdefault(array.shape, []).append(number)
    for (height, width, _), numbers in by_size.items():
        levels = np.stack([thumbnails[number] for number in numbers])
        hashes = _hashes(levels, height, width)
        across = _box_means(height) @ levels.astype(np.float32).reshape(-1, height, width * 3)
        grids = np.rint(_box_means(width) @ across.reshape(-1, GRID, width, 3)).astype(np.uint8)
        for number, phash, grid in zip(numbers, hashes.tolist(), grids, strict=True):
            hashed[number] = (phash, grid.tobytes())
    return hashed


def _hashes(levels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint64]:
    # Integers, so that the batch size changes no bit. The weights are those of ITU-R BT.601.
    red, green, blue = np.moveaxis(levels.astype(np.uint16), 3, 0)
    gray = (77 * red + 150 * green + 29 * blue).astype(np.float32) / 256
    waves = (_waves(height) @ gray @ _waves(width).T).reshape(-1, KEPT * KEPT)
    ordered = np.sort(waves[:, 1:], axis=1)
    bits = waves > ordered[:, KEPT * KEPT // 2 - 1, None]  # the median
    hashes: NDArray[np.uint64] = np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0]
    flat = np.maximum(-ordered[:, 0], ordered[:, -1]) < FLAT
    return np.where(flat, np.uint64(0), hashes)


@lru_cache(maxsize=2 * SIDE)
def _waves(length: int) -> NDArray[np.float32]:
    """Lowest frequencies of a DCT-II of `length` values, as means: [KEPT, length]."""
    positions = np.arange(length)[None] + 0.5
    waves = np.cos(np.pi / length * positions * np.arange(KEPT)[:, None]) / length
    return np.asarray(waves, dtype=np.float32)


@lru_cache(maxsize=2 * SIDE)
def _box_means(length: int) -> NDArray[np.float32]:
    """Weights that average `length` values in equal parts: [GRID, length]."""
    ends = np.linspace(0, length, GRID + 1)
    positions = np.arange(length)
    overlap = np.minimum(ends[1:, None], positions + 1) - np.maximum(ends[:-1, None], positions)
    return np.asarray(np.maximum(overlap, 0) * GRID / length, dtype=np.float32)


def near_duplicates(facts: Rows, skipped: Sequence[int] = ()) -> list[list[int]]:
    """Return groups of two or more near-duplicates, as ascending indices into `facts`.

    facts: rows with the fields look (the hash) and thumb (the color grid). Hashes of 0, and the indices `skipped`, are
    passed over. Where more than 48 agree in a band of their hash, only neighbors in sorted order are compared.
    """
    parent: dict[int, int] = {}
    excluded = np.sort(np.asarray(skipped, dtype=np.int64))
    for band in range(_BANDS):
        width = min(_WIDTH, 64 - band * _WIDTH)  # bits
        down = np.uint64(64 - width)

        def keyed(start: int, chunk: NDArray[Any], band: int = band) -> NDArray[Any]:
            indices = np.arange(start, start + len(chunk))
            valid = (chunk["look"] != 0) & ~np.isin(indices, excluded)
            rows = np.empty(int(valid.sum()), dtype=_BANDED)
            hashes, up = chunk["look"][valid], np.uint64(band * _WIDTH)
            # Rotated until the band comes first, which keeps the number of bits that differ between two hashes.
            rows["key"] = hashes << up | hashes >> (np.uint64(64) - up) if band else hashes
            rows["index"], rows["thumb"] = indices[valid], chunk["thumb"][valid]
            return rows

        for rows in sorted_by_key(facts, keyed, width):
            values, indices = rows["key"] >> down, rows["index"]
            for shift in range(1, min(_REACH, len(rows) - 1) + 1):
                same = np.flatnonzero(values[shift:] == values[:-shift])
                if not len(same):
                    break
                close = _agree(rows, same, same + shift)
                for first, other in zip(
                    indices[same[close]].tolist(), indices[same[close] + shift].tolist(), strict=True
                ):
                    parent[_root(parent, first)] = _root(parent, other)
    groups: dict[int, list[int]] = {}
    for member in sorted(parent):
        groups.setdefault(_root(parent, member), []).append(member)
    for root, members in groups.items():
        if root not in members:
            members.append(root)
            members.sort()
    return sorted(groups.values())


def _agree(rows: NDArray[Any], first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.intp]:
    """Find the pairs of rows that are near-duplicates: positions in `first`."""
    num_bits = _ONES[(rows["key"][first] ^ rows["key"][second]).view(np.uint8).reshape(-1, 8)].sum(1)
    near = np.flatnonzero(num_bits <= BITS_APART)
    difference = rows["thumb"][first[near]].astype(np.float32) - rows["thumb"][second[near]]
    agree: NDArray[np.intp] = near[np.sqrt((difference**2).mean(1)) <= LEVELS_APART]
    return agree


def _root(parent: dict[int, int], member: int) -> int:
    while (above := parent.get(member, member)) != member:
        parent[member] = parent.get(above, above)
        member = parent[member]
    return member
