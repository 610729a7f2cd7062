"""The packed model of a page or site, which may come from a stranger, as the description and the weights in it.

Sizes are compared before memory is taken: those in the head of the packed model with each other, with the size of the
file and with the network that the configuration describes. Nothing of a page is run: its HTML and scripts are not read.
"""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tintype.errors import CheckpointError
from tintype.export.importing.sources import PACKED
from tintype.export.payload import FIRST, LOST, PART
from tintype.model.read_file import read_bytes

MAX_PAGE_BYTES = 2**30
MAX_HEAD_BYTES = 2**25  # of the description: a tokenizer, the license of the software, a list of weights
MAX_ENTRIES = 2**16
MAX_GROWTH = 64  # times that packed weights may grow; those of a trained model grow by a tenth
_NUMBER_BYTES = {"f32": 4, "f16": 2, "i8": 1, "text": 1}
_PART = re.compile(rb'<script type="text/plain" class="part">([^<]*)</script>')


class Entry(NamedTuple):
    """Where a tensor or text lies in the unpacked bytes, and of what kind it is."""

    kind: str
    shape: tuple[int, ...]
    at: int

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * _NUMBER_BYTES[self.kind]


class PackedModel(NamedTuple):
    """A packed model, with nothing of it unpacked but the head."""

    path: Path
    description: dict[str, Any]
    entries: dict[str, Entry]
    head_bytes: int
    packed: bytes


def read_packed(path: Path) -> PackedModel:
    """Read a page, or the folder of a site, and check its head. Raises CheckpointError."""
    try:
        if path.is_dir():
            packed = read_bytes(path / PACKED, MAX_PAGE_BYTES, path)
        else:
            packed = b"".join(_parts(read_bytes(path, MAX_PAGE_BYTES), path))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    if not packed:
        raise CheckpointError(
            f"{path} is a page without its model; save the file itself, not what a browser shows of it"
        )
    unpacker = zlib.decompressobj(31)
    start = _unpacked(unpacker, packed, 4, path)
    (length,) = struct.unpack("<I", start[:4])
    if not 0 < length <= MAX_HEAD_BYTES or length % 4:
        raise _damaged(path)
    head = _unpacked(zlib.decompressobj(31), packed, 4 + length, path)[4:]
    try:
        description = json.loads(head)
        entries = _entries(description["payload"])
        unpacked = description["unpacked"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise _damaged(path) from None
    end = max((entry.at + entry.num_bytes for entry in entries.values()), default=0)
    if type(unpacked) is not int or unpacked != end + -end % 4:
        raise _damaged(path)
    if unpacked > MAX_GROWTH * len(packed):
        raise CheckpointError(
            f"{path} would grow to {unpacked / 2**20:,.1f} MiB, more than a model does; it is refused"
        )
    return PackedModel(path, description, entries, 4 + length, packed)


def tensors(model: PackedModel, names: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of these names and shapes: float32 and float16 as they are stored, int8 as the float32 that they
    stand for. Raises CheckpointError for one that is missing, of another shape or not finite.
    """
    for name, shape in names.items():
        entry = model.entries.get(name)
        if entry is None or entry.shape != shape or entry.kind == "text":
            raise CheckpointError(f"{model.path} is damaged: its {name} does not fit its configuration")
    content = _content(model)
    found = {name: torch.from_numpy(_numbers(model, content, name)) for name in names}
    for name, tensor in found.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{model.path} is damaged: its {name} has values that are no numbers")
    return found


def _content(model: PackedModel) -> bytes:
    """All entries, unpacked."""
    size = model.head_bytes + model.description["unpacked"]
    unpacker = zlib.decompressobj(31)
    content = _unpacked(unpacker, model.packed, size, model.path)
    try:
        is_over = not unpacker.decompress(unpacker.unconsumed_tail, 1) and unpacker.eof
    except zlib.error:  # such as a wrong sum of all bytes
        is_over = False
    if not is_over or len(unpacker.unused_data.rstrip(b"\0")) > 0:
        raise _damaged(model.path)
    return content[model.head_bytes :]


def _unpacked(unpacker: Any, packed: bytes, size: int, path: Path) -> bytes:
    """The first `size` bytes, and no more."""
    try:
        content: bytes = unpacker.decompress(packed, size)
    except zlib.error:
        raise _damaged(path) from None
    if len(content) != size:
        raise _damaged(path)
    return content


def _entries(header: Any) -> dict[str, Entry]:
    """The entries of a payload. Raises ValueError, TypeError, KeyError or AttributeError for any other JSON."""
    if len(header) > MAX_ENTRIES:
        raise ValueError("too many entries")
    entries = {}
    for name, values in header.items():
        kind, shape, at = values["kind"], values["shape"], values["at"]
        numbers = [at, *shape]
        if any(type(number) is not int or not 0 <= number < 2**40 for number in numbers) or len(shape) > 8:
            raise ValueError("a size is no size")
        if kind not in _NUMBER_BYTES or at % 4:
            raise ValueError("an entry is of no known kind")
        entries[str(name)] = Entry(kind, tuple(shape), at)
    return entries


def _numbers(model: PackedModel, content: bytes, name: str) -> NDArray[Any]:
    entry = model.entries[name]
    num = math.prod(entry.shape)
    if entry.kind == "f32":
        return np.frombuffer(content, "<f4", num, entry.at).reshape(entry.shape).copy()
    if entry.kind == "f16":  # the lower bytes of all, then the higher ones
        pairs = np.frombuffer(content, np.uint8, 2 * num, entry.at).reshape(2, num)
        return np.ascontiguousarray(pairs.T).view("<f2").reshape(entry.shape)
    scales = model.entries.get(f"{name}.scales")
    if scales is None or scales.kind != "f32" or scales.shape != entry.shape[:1] or not entry.shape:
        raise _damaged(model.path)
    rows = np.frombuffer(content, np.int8, num, entry.at).reshape(entry.shape[0], -1).astype(np.float32)
    rows *= np.frombuffer(content, "<f4", entry.shape[0], scales.at).reshape(-1, 1)
    return rows.reshape(entry.shape)


def _parts(page: bytes, path: Path) -> Iterator[bytes]:
    """The bytes that the parts of a page stand for: what `payload.text_parts` wrote.

    Ends of lines are read as a browser reads them: a program that copied the page may have written others.
    """
    for match in _PART.finditer(page):
        part = match[1].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        try:
            signs = np.frombuffer(part.decode().encode("utf-32-le"), "<u4")
        except UnicodeDecodeError:
            raise _damaged(path) from None
        is_pair = signs >= FIRST
        ranks = np.where(is_pair, (signs - FIRST) >> 7, 0)
        if len(signs) > 2**20 + 1 or bool((ranks >= len(LOST)).any()) or bool((~is_pair & (signs > 127)).any()):
            raise _damaged(path)
        values = np.stack([np.array(LOST)[ranks], signs & 127], axis=1).astype(np.uint8)
        values = values[np.stack([is_pair, np.ones_like(is_pair)], axis=1)]
        bits = np.unpackbits(values.reshape(-1, 1), axis=1)[:, 1:].reshape(-1)
        yield np.packbits(bits[: len(bits) // 8 * 8]).tobytes()[:PART]


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is damaged, or no model of Tintype is in it; copy it again")
