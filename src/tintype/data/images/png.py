"""PNG files beyond what Pillow reads: large texts and color profiles, and the transparent color of every bit depth."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

MAX_PROFILE_BYTES = 16 * 2**20  # of a color profile, unpacked; Pillow stops at 1 MB
PROFILE_TOO_LARGE = f"its color profile is larger than {MAX_PROFILE_BYTES // 2**20} MB and not used"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">I4s")  # of a chunk: length of its content, type
_CRC = 4  # bytes after the content of a chunk
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_GRAY, _COLOR = 0, 2  # color types whose transparency is one color


class Reduced(NamedTuple):
    """A PNG file without its texts and color profile, and that profile."""

    content: bytes
    profile: bytes | None  # None: it has none that can be used
    note: str  # why the profile is not used; "" if it is


def without_texts(content: bytes) -> Reduced | None:
    """Take out the texts and the color profile of a PNG file, which Pillow refuses when they are large.

    None for other files, and for a PNG file that has neither.
    """
    if not content.startswith(_SIGNATURE):
        return None
    parts, profile, note, removed = [_SIGNATURE], None, "", False
    for kind, start, end in _chunks(content):
        removed = removed or kind in (*_TEXTS, b"iCCP")
        if kind == b"iCCP":
            profile, note = _profile(content[start + _HEADER.size : end - _CRC])
        elif kind not in _TEXTS:
            parts.append(content[start:end])
    return Reduced(b"".join(parts), profile, note) if removed else None


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, the start and the end of every chunk; the end of a file that is cut short is one chunk."""
    start = len(_SIGNATURE)
    while start + _HEADER.size <= len(content):
        length, kind = _HEADER.unpack_from(content, start)
        end = min(len(content), start + _HEADER.size + length + _CRC)
        yield kind, start, end
        start = end


def _profile(body: bytes) -> tuple[bytes | None, str]:
    """The color profile in an iCCP chunk; None where it is damaged or too large, and a note then."""
    packed = body.partition(b"\0")[2][1:]  # after the name and one byte for the method
    try:
        profile = zlib.decompressobj().decompress(packed, MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return None, ""
    return (profile, "") if len(profile) <= MAX_PROFILE_BYTES else (None, PROFILE_TOO_LARGE)


def transparent_color(image: Image.Image, content: bytes) -> None:
    """Bring the transparent color of a PNG picture of any bit depth to the pixels as Pillow gives them, before loading.

    Pillow scales gray of 2 and 4 bits, and takes the upper half of 16-bit colors, but leaves their transparent color.
    16-bit gray keeps all bits, and its color too.
    """
    color = image.info.get("transparency")
    depth, color_type = content[24], content[25]
    if color_type == _GRAY and depth in (2, 4) and isinstance(color, int):
        image.info["transparency"] = color * 255 // (2**depth - 1)
    elif color_type == _COLOR and depth == 16 and isinstance(color, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in color)


def gray16_alpha(image: Image.Image) -> Image.Image | None:
    """The opacity (mode L) of loaded gray pixels of more than 8 bits with one transparent value; None without one."""
    value = image.info.get("transparency")
    if not isinstance(value, int):
        return None
    return Image.fromarray(np.where(np.asarray(image) == value, 0, 255).astype(np.uint8))
