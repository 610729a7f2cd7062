"""The payload of a page: tensors and texts one after another, compressed, and written as text that HTML can hold.

Bytes become characters of 7 bits. The three values that HTML does not keep stand together with the next one in a
character of two bytes, U+0100 to U+027F: the text takes 8/7 of the bytes in any page of UTF-8.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

LOST = (0, 13, 60)  # NUL, the carriage return and "<": HTML replaces or reads them
FIRST = 0x100  # the character of the first of them before a 0
PART = 7 * 2**17  # bytes in a part of the text, so that unpacking shows its progress
LEVELS = 90  # of an int8 weight, on each side of 0: 127 take 7 % more room, and nobody sees the difference

_IS_LOST = np.isin(np.arange(128), LOST)
_RANKS = np.searchsorted(LOST, np.arange(128)).astype(np.uint32)


class Payload:
    """Entries by name, and the bytes of all. `header` says where each lies and of what kind it is."""

    def __init__(self) -> None:
        self.header: dict[str, dict[str, Any]] = {}
        self._contents: list[bytes] = []
        self._size = 0

    def add_floats(self, name: str, values: Tensor) -> None:
        """Numbers as float32."""
        self._add(name, "f32", values.shape, _array(values).astype("<f4").tobytes())

    def add_halves(self, name: str, values: Tensor) -> None:
        """Numbers as float16: the lower bytes of all, then the higher ones, which are alike and so take less room."""
        pairs = _array(values).astype("<f2").reshape(-1, 1).view(np.uint8)
        self._add(name, "f16", values.shape, pairs.T.tobytes())

    def add_bytes(self, name: str, values: Tensor, levels: float = LEVELS) -> None:
        """Numbers as int8, a scale for each row [N, ...]: `levels` stands for the largest number of the row."""
        rows = _array(values).reshape(len(values), -1)
        scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-30).astype(np.float32) / np.float32(levels)
        self._add(f"{name}.scales", "f32", scales.shape[:1], scales.astype("<f4").tobytes())
        self._add(name, "i8", values.shape, np.rint(rows / scales).astype(np.int8).tobytes())

    def add_text(self, name: str, text: str) -> None:
        """A text."""
        content = text.encode()
        self._add(name, "text", (len(content),), content)

    def content(self) -> bytes:
        """All entries one after another."""
        return b"".join(self._contents)

    def compressed(self, head: bytes = b"") -> bytes:
        """What stands before them, and all entries, as gzip."""
        # Weights repeat nothing: their bytes are given shorter codes, but no copies are looked for.
        packer = zlib.compressobj(9, zlib.DEFLATED, 31, 9, zlib.Z_FILTERED)
        return b"".join(packer.compress(content) for content in (head, *self._contents)) + packer.flush()

    @property
    def size(self) -> int:
        """Bytes of all entries before they are compressed."""
        return self._size

    def _add(self, name: str, kind: str, shape: Iterable[int], content: bytes) -> None:
        content += bytes(-len(content) % 4)
        self.header[name] = {"kind": kind, "shape": list(shape), "at": self._size}
        self._contents.append(content)
        self._size += len(content)


def add_weights(payload: Payload, weights: Mapping[str, Tensor], precision: str) -> None:
    """Add weights in a precision of `options.PRECISIONS`.

    Vectors, which are few, stay float32. With int8 the convolutions near the pixels stay float16: rounding them shows
    most in a picture, and they are few as well.
    """
    for name, weight in weights.items():
        is_near_pixels = weight.ndim == 4 and not name.startswith("net.tokens.")
        if weight.ndim < 2 or name.endswith((".scale", ".modulation")) or precision == "fp32":
            payload.add_floats(name, weight)
        elif precision == "fp16" or is_near_pixels:
            payload.add_halves(name, weight)
        else:
            payload.add_bytes(name, weight)


def text_parts(content: bytes) -> Iterator[str]:
    """Bytes as text that HTML can hold, part by part; `bytesOf` in page/unpack.js reads it."""
    for start in range(0, len(content), PART):
        yield _text(np.frombuffer(content[start : start + PART], dtype=np.uint8))


def _text(content: NDArray[np.uint8]) -> str:
    num = -(-8 * len(content) // 7)
    sevens = np.concatenate([content, np.zeros(-len(content) % 7, dtype=np.uint8)]).reshape(-1, 7).astype(np.uint64)
    joined = sevens @ (np.uint64(1) << np.arange(48, -8, -8, dtype=np.uint64))
    values = (joined[:, None] >> np.arange(49, -7, -7, dtype=np.uint64) & np.uint64(127)).astype(np.uint32).reshape(-1)
    values = np.concatenate([values[:num], np.zeros(1, dtype=np.uint32)])  # one value more, for a last lost one
    places, lost = np.arange(len(values)), _IS_LOST[values]
    # In a row of lost values every other one takes the value behind it along, which may be lost as well.
    begins = lost & ~np.concatenate([[False], lost[:-1]])
    leads = lost & ((places - np.maximum.accumulate(np.where(begins, places, 0))) % 2 == 0)
    behind = np.concatenate([[False], leads[:-1]])
    pairs = FIRST + 128 * _RANKS[values] + np.concatenate([values[1:], [0]])
    behind[-1] = True  # the value more: taken along or not needed
    signs: NDArray[np.uint32] = np.where(leads, pairs, values)[~behind].astype("<u4")
    return signs.tobytes().decode("utf-32-le")


def _array(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.detach().cpu().numpy()
    return array
