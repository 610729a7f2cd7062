"""Pictures that look alike: a perceptual hash, and the groups of those whose hashes nearly agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32  # pixels that a picture is brought to for its hash
KEPT = 8  # lowest frequencies each way: 64 bits
THUMB = 4  # pixels; the side of the little picture that tells colors apart
FLAT = 2.0  # gray levels; all frequencies below it: the picture has no structure to hash
BITS_APART = 4  # of 64, in which near-duplicates may differ
LEVELS_APART = 6.0  # of 255, root mean square, in which their little pictures may differ
_BANDS = BITS_APART + 1  # of the hash; two that differ in 4 bits agree in one of 5 bands
_REACH = 48  # neighbors in a band that are compared: bounds the time where very many agree
_frequencies = np.sqrt(2 / SIDE) * np.cos(
    np.pi / SIDE * (np.arange(SIDE)[None] + 0.5) * np.arange(KEPT)[:, None], dtype=np.float32
)  # [KEPT, SIDE], DCT-II


def look_of(picture: Image.Image) -> tuple[int, bytes]:
    """A 64-bit perceptual hash (signs of low DCT frequencies around their median; Zauner 2010) and 4 x 4 RGB bytes.

    The hash of a picture without structure is 0.
    """
    gray = np.asarray(_shrunk(picture.convert("L"), SIDE), dtype=np.float32)
    waves = (_frequencies @ gray @ _frequencies.T).ravel()
    thumb = _shrunk(picture, THUMB).tobytes()
    if np.abs(waves[1:]).max() < FLAT * SIDE:
        return 0, thumb
    bits = waves > np.sort(waves[1:])[KEPT * KEPT // 2 - 1]  # the median
    return int.from_bytes(np.packbits(bits).tobytes(), "big"), thumb


def _shrunk(picture: Image.Image, side: int) -> Image.Image:
    """The picture as a square of `side` pixels, each the mean of those it stands for."""
    if picture.width % side or picture.height % side:
        return picture.resize((side, side), Image.Resampling.BOX)
    return picture.reduce((picture.width // side, picture.height // side))  # the same, in less time


def alike(looks: NDArray[np.uint64], thumbs: NDArray[np.uint8]) -> list[list[int]]:
    """Groups of two or more that look alike, as indices, ascending.

    looks: [N]; thumbs: [N, 48]. Hashes of 0 are passed over. Where more than 48 agree in a band of their hash, only
    neighbors in the order of their hashes are compared.
    """
    there = np.flatnonzero(looks)
    parent: dict[int, int] = {}
    width = -(-64 // _BANDS)
    for band in range(_BANDS):
        values = (looks[there] >> np.uint64(band * width)) & np.uint64(2**width - 1)
        order = np.lexsort((looks[there], values))
        places, sorted_values = there[order], values[order]
        for shift in range(1, min(_REACH, len(places) - 1) + 1):
            same = np.flatnonzero(sorted_values[shift:] == sorted_values[:-shift])
            if not len(same):
                break
            first, second = places[same], places[same + shift]
            close = _agree(looks, thumbs, first, second)
            for one, other in zip(first[close].tolist(), second[close].tolist(), strict=True):
                parent[_root(parent, one)] = _root(parent, other)
    groups: dict[int, list[int]] = {}
    for member in sorted(parent):
        groups.setdefault(_root(parent, member), []).append(member)
    for root, members in groups.items():
        if root not in members:
            members.append(root)
            members.sort()
    return sorted(groups.values())


def _agree(
    looks: NDArray[np.uint64], thumbs: NDArray[np.uint8], first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Which of the pairs are near-duplicates: places in `first`."""
    differ = np.unpackbits((looks[first] ^ looks[second]).view(np.uint8).reshape(-1, 8), axis=1).sum(1)
    few = np.flatnonzero(differ <= BITS_APART)
    apart = thumbs[first[few]].astype(np.float32) - thumbs[second[few]]
    agree: NDArray[np.intp] = few[np.sqrt((apart**2).mean(1)) <= LEVELS_APART]
    return agree


def _root(parent: dict[int, int], member: int) -> int:
    while (above := parent.get(member, member)) != member:
        parent[member] = parent.get(above, above)
        member = parent[member]
    return member
