"""Pairs from tar files by the conventions of WebDataset: the members of one sample share a name up to its first dot.

`00017.jpg` is captioned by `00017.txt`, `00017.caption`, or by text, caption or prompt in `00017.json`. Members are
found by their headers, so that each picture can be read on its own, on this machine or at a URL.
"""

from __future__ import annotations

import json
import posixpath
import struct
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

from tintype.config import DataConfig
from tintype.data.sources.captions import MAX_CAPTION_BYTES, NO_CAPTION, decode_text, parse_captions, row_captions
from tintype.data.sources.file_types import CAPTION_SUFFIXES, PICTURE_SUFFIXES, unsupported
from tintype.data.sources.files import MAX_BYTES, FileError, ImageSource, SourceRoot
from tintype.data.sources.pairs import Listing, Pair, Problem, substitute
from tintype.data.sources.remote import Archive

_BLOCK = 512  # bytes; headers and contents begin at multiples of it
_OTHERS = frozenset({".json"})


@dataclass(frozen=True, slots=True)
class Member:
    """A picture inside an archive."""

    archive: Archive
    offset: int  # bytes
    size: int

    @property
    def fingerprint(self) -> bytes:
        return self.archive.fingerprint + struct.pack("<2q", self.offset, self.size)

    @property
    def archive_path(self) -> str:
        return self.archive.path

    @property
    def fork_safe(self) -> bool:
        return self.archive.files is None  # a local file, opened for each read

    def read(self) -> bytes:
        return self.archive.read(self.offset, self.size)

    def serialize(self) -> tuple[SourceRoot, list[Any]]:
        return _Members(self.archive), [self.offset, self.size]


class _Members(NamedTuple):
    archive: Archive

    def deserialize(self, values: list[Any]) -> ImageSource:
        return Member(self.archive, values[0], values[1])


class _Part(NamedTuple):
    """A member of a sample: where it lies, and its bytes if it is text."""

    name: str
    offset: int
    size: int
    content: bytes
    reason: str


@dataclass(slots=True)
class _Sample:
    parts: dict[str, _Part] = field(default_factory=dict)  # by suffix, with its dot

    def first(self, suffixes: tuple[str, ...] | frozenset[str]) -> _Part | None:
        return next((part for suffix, part in self.parts.items() if suffix in suffixes), None)


def list_tar(archive: Archive, name: str, options: DataConfig) -> Listing:
    """The captioned pictures of one tar file, in its order; their keys begin with `name`."""
    problems: list[Problem] = []

    def note(member: str, reason: str, left_out: bool = True) -> None:
        problems.append(Problem(f"{name}/{member}" if member else name, reason, left_out))

    samples = _samples(archive, note)
    pairs = []
    num_pictures = 0
    for sample in samples.values():
        picture = sample.first(PICTURE_SUFFIXES)
        if picture is None:
            part = next(iter(sample.parts.values()))
            strange = next((found for found in sample.parts if unsupported(found)), "")
            if strange:
                note(sample.parts[strange].name, unsupported(strange))
            elif any(suffix in sample.parts for suffix in CAPTION_SUFFIXES):
                note(part.name, "there is no picture of this name", False)
            continue
        num_pictures += 1
        if picture.reason:
            note(picture.name, picture.reason)
            continue
        if sum(suffix in PICTURE_SUFFIXES for suffix in sample.parts) > 1:
            note(picture.name, "of the pictures in its sample, this one is used", False)
        captions, where, reason = _captions(sample, picture.name, options)
        if reason:
            note(where, reason)
        else:
            source = Member(archive, picture.offset, picture.size)
            pairs.append(Pair(f"{name}/{picture.name}", source, captions))
    return Listing(tuple(pairs), tuple(problems), num_pictures)


def _captions(sample: _Sample, picture: str, options: DataConfig) -> tuple[tuple[str, ...], str, str]:
    """The captions of a sample; else (), the member that is to blame, and the reason."""
    part = next((sample.parts[suffix] for suffix in CAPTION_SUFFIXES if suffix in sample.parts), None)
    where, reason = picture, NO_CAPTION
    try:
        if part is not None:
            where = part.name
            if part.reason:
                raise FileError(part.reason)
            return parse_captions(decode_text(part.content, options.caption_encoding)), "", ""
        if ".json" in sample.parts:
            part = sample.parts[".json"]
            where = part.name
            captions, reason = _from_json(part)
            if captions:
                return captions, "", ""
    except FileError as error:
        reason = str(error)
    instead = substitute(options.no_caption, picture, reason)
    return (instead, "", "") if instead else ((), where, reason)


def _from_json(part: _Part) -> tuple[tuple[str, ...], str]:
    if part.reason:
        raise FileError(part.reason)
    try:
        values = json.loads(decode_text(part.content))
    except (ValueError, RecursionError):
        raise FileError("it is not JSON") from None
    if not isinstance(values, dict):
        raise FileError("it is not a JSON object")
    return row_captions(values)


def _samples(archive: Archive, note: Callable[..., None]) -> dict[str, _Sample]:
    samples: dict[str, _Sample] = {}
    for part in _parts(archive, note):
        folder, base = posixpath.split(part.name)
        stem, dot, suffix = base.partition(".")
        if not stem or not dot or "__MACOSX" in folder or "/." in f"/{folder}":
            continue  # hidden, or without a suffix: no part of a sample
        sample = samples.setdefault(posixpath.join(folder, stem), _Sample())
        if sample.parts.setdefault(f".{suffix.lower()}", part) is not part:
            note(part.name, "a second member of the same name: the first is used")
    return samples


def _parts(archive: Archive, note: Callable[..., None]) -> Iterator[_Part]:
    """The regular members of a tar file, in order; what cannot be read of it is noted."""
    try:
        with archive.open() as file:
            end = archive.size
            try:
                tar = tarfile.open(fileobj=file, mode="r:")
            except tarfile.TarError:
                note("", _not_a_tar(file))
                return
            with tar:
                yield from _members(tar, file, end, note)
                _require_end(tar, file, end, note)
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
        note("", f"damaged: what follows cannot be read ({' '.join(str(error).split())})")
    except FileError as error:
        note("", str(error))


def _members(tar: tarfile.TarFile, file: IO[bytes], end: int, note: Callable[..., None]) -> Iterator[_Part]:
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # they would be kept for ever
        suffix = posixpath.splitext(member.name)[1].lower()
        is_text = suffix in CAPTION_SUFFIXES or suffix in _OTHERS
        if not is_text and suffix not in PICTURE_SUFFIXES and not unsupported(suffix):
            continue
        reason, content = "", b""
        limit = MAX_CAPTION_BYTES if is_text else MAX_BYTES
        if not member.isreg() or member.issparse():
            reason = "not a regular file"
        elif member.size > limit:
            reason = f"larger than {limit / 2**20:g} MB"
        elif member.offset_data + member.size > end:
            reason = "the tar file is cut short in it"
        elif is_text:
            file.seek(member.offset_data)
            content = file.read(member.size)
        yield _Part(member.name.removeprefix("./"), member.offset_data, member.size, content, reason)


def _require_end(tar: tarfile.TarFile, file: IO[bytes], end: int, note: Callable[..., None]) -> None:
    """tarfile takes a damaged header for the end; the true end is a block of zeros, or that of the file."""
    file.seek(tar.offset)
    block = file.read(_BLOCK)
    if block.strip(b"\0"):
        note("", f"damaged at byte {tar.offset:,}: the {(end - tar.offset) / 2**20:.1f} MB that follow are not read")


def _not_a_tar(file: IO[bytes]) -> str:
    file.seek(0)
    head = file.read(6)
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK")):
        return "compressed, so that no picture can be read on its own: unpack it to .tar"
    return "the file is empty" if not head else "not a tar file"
