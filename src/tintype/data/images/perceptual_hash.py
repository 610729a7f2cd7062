"""Pictures that look alike: a perceptual hash, and the groups of those whose hashes nearly agree."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tintype.data.sources.row_file import Rows, sorted_by_key

SIDE = 32  # pixels, at least, of the shorter side that a picture is reduced to for its hash
KEPT = 8  # lowest frequencies each way: 64 bits
THUMB = 4  # pixels; the side of the little picture that tells colors apart
FLAT = 1.0  # gray levels; all frequencies below it: the picture has no structure to hash
BITS_APART = 4  # of 64, in which near-duplicates may differ
LEVELS_APART = 6.0  # of 255, root mean square, in which their little pictures may differ
_BANDS = BITS_APART + 1  # of the hash; two that differ in 4 bits agree in one of 5 bands
_WIDTH = -(-64 // _BANDS)  # bits of a band; the last has fewer
_REACH = 48  # neighbors in a band that are compared: bounds the time where very many agree
_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)  # bits set in each byte
_LOOKS = np.dtype([("key", "<u8"), ("place", "<i8"), ("thumb", "u1", (48,))])
NOTHING = np.zeros((1, 1, 3), dtype=np.uint8)  # in place of a reduced picture


def thumbnail(picture: Image.Image) -> NDArray[np.uint8]:
    """A picture in mode RGB at 32 pixels a side or a little more, each the mean of those it stands for: [h, w, 3]."""
    factors = (max(1, picture.width // SIDE), max(1, picture.height // SIDE))
    small = picture if factors == (1, 1) else picture.reduce(factors)
    return np.frombuffer(small.tobytes(), dtype=np.uint8).reshape(small.height, small.width, 3)


def perceptual_hash(picture: Image.Image) -> tuple[int, bytes]:
    """The look of one picture in mode RGB: see `perceptual_hashes`."""
    return perceptual_hashes([thumbnail(picture)])[0]


def perceptual_hashes(smalls: Sequence[NDArray[np.uint8]]) -> list[tuple[int, bytes]]:
    """A 64-bit perceptual hash (signs of low DCT frequencies around their median; Zauner 2010) and 4 x 4 RGB bytes.

    smalls: pictures from `thumbnail`. The hash of a picture without structure is 0.
    """
    found: list[tuple[int, bytes]] = [(0, b"")] * len(smalls)
    by_size: dict[tuple[int, ...], list[int]] = {}
    for number, small in enumerate(smalls):
        by_size.setdefault(small.shape, []).append(number)
    for (height, width, _), numbers in by_size.items():
        levels = np.stack([smalls[number] for number in numbers])
        looks = _hashes(levels, height, width)
        across = _parts(height) @ levels.astype(np.float32).reshape(-1, height, width * 3)
        thumbs = np.rint(_parts(width) @ across.reshape(-1, THUMB, width, 3)).astype(np.uint8)
        for number, look, thumb in zip(numbers, looks.tolist(), thumbs, strict=True):
            found[number] = (look, thumb.tobytes())
    return found


def _hashes(levels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint64]:
    # Whole numbers, so that how many are done together changes no bit. The weights are those of ITU-R BT.601.
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
    """The lowest frequencies of a DCT-II of `length` values, as means: [KEPT, length]."""
    places = np.arange(length)[None] + 0.5
    waves = np.cos(np.pi / length * places * np.arange(KEPT)[:, None]) / length
    return np.asarray(waves, dtype=np.float32)


@lru_cache(maxsize=2 * SIDE)
def _parts(length: int) -> NDArray[np.float32]:
    """The means of the equal parts that `length` values are cut into: [THUMB, length]."""
    ends = np.linspace(0, length, THUMB + 1)
    places = np.arange(length)
    shared = np.minimum(ends[1:, None], places + 1) - np.maximum(ends[:-1, None], places)
    return np.asarray(np.maximum(shared, 0) * THUMB / length, dtype=np.float32)


def near_duplicates(seen: Rows, skipped: Sequence[int] = ()) -> list[list[int]]:
    """Groups of two or more that look alike, as places in `seen`, ascending.

    seen: rows with the fields look and thumb. Hashes of 0, and the places `skipped`, are passed over. Where more than
    48 agree in a band of their hash, only neighbors in the order of their hashes are compared.
    """
    parent: dict[int, int] = {}
    without = np.sort(np.asarray(skipped, dtype=np.int64))
    for band in range(_BANDS):
        width = min(_WIDTH, 64 - band * _WIDTH)  # bits
        down = np.uint64(64 - width)

        def keyed(start: int, part: NDArray[Any], band: int = band) -> NDArray[Any]:
            places = np.arange(start, start + len(part))
            there = (part["look"] != 0) & ~np.isin(places, without)
            rows = np.empty(int(there.sum()), dtype=_LOOKS)
            looks, up = part["look"][there], np.uint64(band * _WIDTH)
            # Turned round until the band comes first; what differs between two hashes differs as much then.
            rows["key"] = looks << up | looks >> (np.uint64(64) - up) if band else looks
            rows["place"], rows["thumb"] = places[there], part["thumb"][there]
            return rows

        for rows in sorted_by_key(seen, keyed, width):
            values, places = rows["key"] >> down, rows["place"]
            for shift in range(1, min(_REACH, len(rows) - 1) + 1):
                same = np.flatnonzero(values[shift:] == values[:-shift])
                if not len(same):
                    break
                close = _agree(rows, same, same + shift)
                for one, other in zip(places[same[close]].tolist(), places[same[close] + shift].tolist(), strict=True):
                    parent[_root(parent, one)] = _root(parent, other)
    groups: dict[int, list[int]] = {}
    for member in sorted(parent):
        groups.setdefault(_root(parent, member), []).append(member)
    for root, members in groups.items():
        if root not in members:
            members.append(root)
            members.sort()
    return sorted(groups.values())


def _agree(rows: NDArray[Any], first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.intp]:
    """Which pairs of rows are near-duplicates: places in `first`."""
    differ = _ONES[(rows["key"][first] ^ rows["key"][second]).view(np.uint8).reshape(-1, 8)].sum(1)
    few = np.flatnonzero(differ <= BITS_APART)
    apart = rows["thumb"][first[few]].astype(np.float32) - rows["thumb"][second[few]]
    agree: NDArray[np.intp] = few[np.sqrt((apart**2).mean(1)) <= LEVELS_APART]
    return agree


def _root(parent: dict[int, int], member: int) -> int:
    while (above := parent.get(member, member)) != member:
        parent[member] = parent.get(above, above)
        member = parent[member]
    return member
