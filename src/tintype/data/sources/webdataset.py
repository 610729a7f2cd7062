"""WebDataset: tar files in which the members of one sample share a name up to its first dot, or up to its last.

`00017.jpg` is captioned by `00017.txt`, `00017.caption`, or by text, caption or prompt in `00017.json`. Listing reads
only headers and captions; each picture is then read by its offset, on this machine or at a URL.
"""

from __future__ import annotations

import json
import posixpath
import struct
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import IO, Any, NamedTuple, cast

from tintype.config import DataConfig
from tintype.data.sources.captions import (
    MAX_CAPTION_BYTES,
    NO_CAPTION,
    decode_text,
    parse_captions,
    row_captions,
    substitute,
)
from tintype.data.sources.file_types import CAPTION_SUFFIXES, HEAD_BYTES, PICTURE_SUFFIXES, is_picture, unsupported
from tintype.data.sources.files import MAX_BYTES, FileError, ImageSource, SourceRoot, one_line, too_large
from tintype.data.sources.pairs import NEITHER, Listing, Pair, Problem, Remarks
from tintype.data.sources.remote import Archive
from tintype.data.sources.walk import is_junk
from tintype.printable import printable

_BLOCK = 512  # bytes; headers and contents begin at multiples of it
_TEXTS = frozenset({*CAPTION_SUFFIXES, ".json"})  # suffixes of captions
MAX_HEADER_BYTES = 2**20  # of one header, long names and pax records included


@dataclass(frozen=True, slots=True)
class Member:
    """A picture inside a tar file."""

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
        return self.archive.file_system is None  # a local file, opened for each read

    def read(self) -> bytes:
        return self.archive.read(self.offset, self.size)

    def serialize(self) -> tuple[SourceRoot, list[Any]]:
        return _TarRoot(self.archive), [self.offset, self.size]


class _TarRoot(NamedTuple):
    archive: Archive

    def deserialize(self, values: list[Any]) -> ImageSource:
        return Member(self.archive, values[0], values[1])


class _Part(NamedTuple):
    """A member of a sample, with its content if it is text."""

    name: str
    offset: int
    size: int
    content: bytes
    reason: str  # why it cannot be read; "" if it can
    is_picture: bool


@dataclass(slots=True)
class _Sample:
    parts: dict[str, _Part] = field(default_factory=dict)  # by suffix, with its dot

    @property
    def pictures(self) -> list[_Part]:
        return [part for part in self.parts.values() if part.is_picture]


def list_tar(archive: Archive, name: str, options: DataConfig) -> Listing:
    """List the captioned pictures of one tar file, in its order; their keys begin with `name`."""
    problems: list[Problem] = []

    def report(member: str, reason: str, left_out: bool = True) -> None:
        problems.append(Problem(f"{name}/{member}" if member else name, reason, left_out))

    remarks = Remarks()
    samples = _samples(archive, report, remarks)
    problems += (replace(problem, path=f"{name}/{problem.path}") for problem in remarks.problems())
    pairs = []
    num_pictures = 0
    for path, sample in samples.items():
        picture = next(iter(sample.pictures), None)
        has_caption = not _TEXTS.isdisjoint(sample.parts)
        if not (picture and has_caption) and _further_of(path, samples):
            report(next(iter(sample.parts.values())).name, "a further member of its sample, which is not used", False)
            continue
        if picture is None:
            part = next(iter(sample.parts.values()))
            other = next((suffix for suffix in sample.parts if unsupported(suffix)), "")
            if other:
                report(sample.parts[other].name, unsupported(other))
            elif any(suffix in sample.parts for suffix in CAPTION_SUFFIXES):
                report(part.name, "no picture has this name", False)
            continue
        num_pictures += 1
        if picture.reason:
            report(picture.name, picture.reason)
            continue
        if len(sample.pictures) > 1:
            report(picture.name, "its sample has several pictures: this one is used", False)
        captions, where, reason = _captions(sample, picture.name, options)
        if reason:
            report(where, reason)
        else:
            source = Member(archive, picture.offset, picture.size)
            pairs.append(Pair(f"{name}/{picture.name}", source, captions))
    return Listing(tuple(pairs), tuple(problems), num_pictures)


def _captions(sample: _Sample, picture: str, options: DataConfig) -> tuple[tuple[str, ...], str, str]:
    """Return the captions of a sample, "" and ""; or (), the member at fault and the reason."""
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
            captions, reason = _json_captions(part, options.caption_encoding)
            if captions:
                return captions, "", ""
    except FileError as error:
        reason = str(error)
    substitutes = substitute(options.no_caption, picture, reason)
    return (substitutes, "", "") if substitutes else ((), where, reason)


def _json_captions(part: _Part, encoding: str) -> tuple[tuple[str, ...], str]:
    if part.reason:
        raise FileError(part.reason)
    try:
        values = json.loads(decode_text(part.content, encoding))
    except (ValueError, RecursionError):
        raise FileError("it is not JSON") from None
    if not isinstance(values, dict):
        raise FileError("it is not a JSON object")
    return row_captions(values)


def _samples(archive: Archive, report: Callable[..., None], remarks: Remarks) -> dict[str, _Sample]:
    samples: dict[str, _Sample] = {}
    for part in _parts(archive, report, remarks):
        folder, base = posixpath.split(part.name)
        stem, _, suffix = base.partition(".")
        if not _is_known(f".{suffix.lower()}"):  # a stem with dots in it, or a further member such as 00017.seg.png
            stem, suffix = posixpath.splitext(base)[0], posixpath.splitext(base)[1].removeprefix(".")
        sample = samples.setdefault(posixpath.join(folder, stem), _Sample())
        if sample.parts.setdefault(f".{suffix.lower()}", part) is not part:
            report(part.name, "a second member of the same name: the first is used")
    return samples


def _is_known(suffix: str) -> bool:
    """Whether a member of this suffix is a picture, a caption or a table of one sample."""
    return suffix in PICTURE_SUFFIXES or suffix in _TEXTS


def _further_of(path: str, samples: Mapping[str, _Sample]) -> bool:
    """Whether the sample at `path`, whose name has dots, is a further member of one that has a picture."""
    folder, base = posixpath.split(path)
    sample = samples.get(posixpath.join(folder, base.partition(".")[0]))
    return "." in base and sample is not None and bool(sample.pictures)


def _parts(archive: Archive, report: Callable[..., None], remarks: Remarks) -> Iterator[_Part]:
    """Yield the members of a tar file that may belong to samples, in order; report what cannot be read."""
    try:
        with archive.open() as file:
            end = archive.size
            try:
                tar = tarfile.open(fileobj=cast("IO[bytes]", _HeaderReader(file)), mode="r:")
            except tarfile.TarError:
                report("", _wrong_format(file))
                return
            with tar:
                yield from _members(tar, file, end, report, remarks)
                _require_end(tar, file, end, report)
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
        report("", f"damaged: the rest cannot be read ({one_line(error)})")
    except FileError as error:
        report("", str(error))


class _HeaderReader:
    """A tar file through which tarfile reads headers; a larger read would be a header of absurd size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header is larger than {MAX_HEADER_BYTES / 2**20:g} MB, or of negative size")
        return self._file.read(size)


def _members(
    tar: tarfile.TarFile, file: IO[bytes], end: int, report: Callable[..., None], remarks: Remarks
) -> Iterator[_Part]:
    before = -1
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # they would be kept for ever
        if member.size < 0 or tar.offset <= before:  # some Pythons would read the same headers again and again
            raise tarfile.ReadError(f"the member {printable(member.name)} has no possible size")
        before = tar.offset
        name = member.name.removeprefix("./")
        if member.isdir() or any(map(is_junk, name.split("/"))):
            continue
        suffix = posixpath.splitext(name)[1].lower()
        is_text, has_picture = suffix in _TEXTS, suffix in PICTURE_SUFFIXES
        if not (is_text or has_picture or unsupported(suffix)):
            has_picture = member.isreg() and is_picture(_head(file, member))
            if not has_picture:
                remarks.add(NEITHER, name)
                continue
        reason, content = "", b""
        limit = MAX_CAPTION_BYTES if is_text else MAX_BYTES
        if not member.isreg() or member.issparse():
            reason = "not a regular file"
        elif member.size > limit:
            reason = too_large(limit)
        elif member.offset_data + member.size > end:
            reason = "the tar file is cut short inside this member"
        elif is_text:
            file.seek(member.offset_data)
            content = file.read(member.size)
        yield _Part(name, member.offset_data, member.size, content, reason, has_picture)


def _head(file: IO[bytes], member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return file.read(min(HEAD_BYTES, member.size))


def _require_end(tar: tarfile.TarFile, file: IO[bytes], end: int, report: Callable[..., None]) -> None:
    """Report a damaged header, which tarfile takes for the end; the true end is a block of zeros or the file's."""
    file.seek(tar.offset)
    block = file.read(_BLOCK)
    if block.strip(b"\0"):
        report("", f"damaged at byte {tar.offset:,}: the remaining {(end - tar.offset) / 2**20:.1f} MB are not read")


def _wrong_format(file: IO[bytes]) -> str:
    file.seek(0)
    head = file.read(6)
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK")):
        return "compressed, so single pictures cannot be read: unpack it to .tar"
    return "the file is empty" if not head else "not a tar file"
