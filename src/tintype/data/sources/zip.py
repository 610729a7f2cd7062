"""Zip files: a data folder in one archive, read by the rules of folders without unpacking it."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from tintype.config import DataConfig
from tintype.data.sources.file_types import HEAD_BYTES
from tintype.data.sources.files import MAX_BYTES, FileError, ImageSource, SourceRoot, one_line, too_large
from tintype.data.sources.folder import list_tree
from tintype.data.sources.pair_list import PairList
from tintype.data.sources.pairs import Listing, Problem
from tintype.data.sources.remote import Archive
from tintype.data.sources.walk import RUN, Entry, RunsInArchive, is_junk

_HEADER = struct.Struct("<4s22xHH")  # local file header: signature, lengths of name and extra field
_MOST_OF_HEAD = 4096  # bytes that are unpacked for it: the tables of a block come before its first byte
_ENCRYPTED = 0x1  # flag bit


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A file inside a zip file, stored or deflated."""

    archive: Archive
    offset: int  # of its local header, bytes
    compressed_size: int
    size: int
    crc: int
    deflated: bool

    @property
    def fingerprint(self) -> bytes:
        return self.archive.fingerprint + struct.pack("<3qI", self.offset, self.compressed_size, self.size, self.crc)

    @property
    def archive_path(self) -> str:
        return self.archive.path

    @property
    def fork_safe(self) -> bool:
        return self.archive.file_system is None  # a local file, opened for each read

    def head(self) -> bytes:
        """The first HEAD_BYTES bytes. Raises FileError."""
        content = self.archive.read(self._start(), min(self.compressed_size, _MOST_OF_HEAD))
        if self.deflated:
            try:
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, HEAD_BYTES)
            except zlib.error as error:
                raise FileError(f"damaged: {one_line(error)}") from None
        return content[:HEAD_BYTES]

    def _start(self) -> int:
        """The offset of its content."""
        signature, name_length, extra_length = _HEADER.unpack(self.archive.read(self.offset, _HEADER.size))
        if signature != b"PK\3\4":
            raise FileError("damaged: the zip file has no such file at its place")
        return int(self.offset + _HEADER.size + name_length + extra_length)

    def read(self, max_bytes: int = MAX_BYTES) -> bytes:
        if max(self.size, self.compressed_size) > max_bytes:
            raise FileError(too_large(max_bytes))
        content = self.archive.read(self._start(), self.compressed_size)
        if self.deflated:
            try:
                # One byte more than it should have, so that a larger content is noticed and never unpacked whole.
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, self.size + 1)
            except zlib.error as error:
                raise FileError(f"damaged: {one_line(error)}") from None
        if len(content) != self.size or zlib.crc32(content) != self.crc:
            raise FileError("damaged: its checksum in the zip file is another")
        return content

    def serialize(self) -> tuple[SourceRoot, list[Any]]:
        return _ZipRoot(self.archive), [self.offset, self.compressed_size, self.size, self.crc, self.deflated]


class _ZipRoot(NamedTuple):
    archive: Archive

    def deserialize(self, values: list[Any]) -> ImageSource:
        return ZipMember(self.archive, *values)


class _ZipFolder:
    """A folder inside a zip file."""

    outside = False

    def __init__(self, prefix: str, entries: dict[str, Entry], reason: str = "") -> None:
        self.prefix = prefix
        self.reason = reason
        self.names = sorted(entries)
        self._entries = entries

    @property
    def locations(self) -> list[str]:
        return [self.prefix.rstrip("/")]

    def entry(self, name: str) -> Entry:
        return self._entries[name]

    def archive(self, name: str) -> None:
        return None

    def contains(self, path: str) -> bool:
        return path in self._entries


def list_zip(archive: Archive, name: str, options: DataConfig) -> Listing:
    """List the captioned pictures of a zip file as those of a folder are; keys begin with `name`."""
    problems: list[Problem] = []
    try:
        with archive.open() as file, zipfile.ZipFile(file) as members:
            folders = list(_folders(archive, members.infolist(), problems))
    except FileError as error:
        return Listing((), (Problem(name, str(error)),))
    except Exception as error:  # damaged in whatever way, or a file system's own
        return Listing((), (Problem(name, f"not a readable zip file ({one_line(error)})"),))
    listing = list_tree(folders, options, name)
    return Listing(
        PairList(replace(pair, key=f"{name}/{pair.key}") for pair in listing.pairs),
        tuple(
            replace(problem, path=name if problem.path == "." else f"{name}/{problem.path}")
            for problem in (*problems, *listing.problems)
        ),
        listing.num_pictures,
        frozenset(f"{name}/{folder}" for folder in listing.repeating),
    )


def _folders(archive: Archive, infos: list[zipfile.ZipInfo], problems: list[Problem]) -> Iterator[_ZipFolder]:
    """Yield the folders that hold files, parents before children."""
    folders: dict[str, dict[str, Entry]] = {}
    runs = RunsInArchive()
    for info in infos:
        path = PurePosixPath(info.filename.lstrip("/"))  # an absolute path is one below the archive
        if info.is_dir() or any(map(is_junk, path.parts)):
            continue
        key = str(path)
        runs.add(key)
        prefix = key[: -len(path.name)]
        entries = folders.setdefault(prefix, {})
        if path.name in entries:
            problems.append(Problem(key, "a second file of the same name: the first is used"))
            continue
        deflated = info.compress_type == zipfile.ZIP_DEFLATED
        source = ZipMember(archive, info.header_offset, info.compress_size, info.file_size, info.CRC, deflated)
        entries[path.name] = Entry(key, source, _reason(info))
    yield from (_ZipFolder(prefix, {}, RUN) for prefix in runs.outermost())
    for prefix in sorted(folders):
        if not prefix.startswith(runs.outermost()):
            yield _ZipFolder(prefix, folders[prefix])


def _reason(info: zipfile.ZipInfo) -> str:
    """Why a member cannot be read; "" if it can."""
    if info.flag_bits & _ENCRYPTED:
        return "encrypted: unpack it"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "compressed by an unusual method: unpack it"
    mode = info.external_attr >> 16
    return "not a regular file" if stat.S_IFMT(mode) not in (0, stat.S_IFREG) else ""
