"""Image sources: files that are read whole, never written, and refused once they have changed."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tintype.data.sources.file_types import HEAD_BYTES
from tintype.errors import DataError

MAX_BYTES = 512 * 2**20  # of one file


class FileError(DataError):
    """One file cannot be used; the message is the reason, without the file's name."""


class ImageSource(Protocol):
    """One picture file: on disk, in an archive or in a table."""

    @property
    def fingerprint(self) -> bytes:
        """Its state when it was listed; it changes with the content."""

    @property
    def archive_path(self) -> str:
        """The archive that it lies in, whose pictures are best read one after another; "" without one."""

    @property
    def fork_safe(self) -> bool:
        """Whether a forked process can read it. Connections to servers and libraries with threads die in a fork."""

    def read(self) -> bytes:
        """Read the whole file. Raises FileError."""

    def serialize(self) -> tuple[SourceRoot, list[Any]]:
        """Return the root and JSON values such that `root.deserialize(values)` equals this source."""


class SourceRoot(Protocol):
    """The folder, archive or table that many sources share. Hashable."""

    def deserialize(self, values: list[Any]) -> ImageSource:
        """Return the source that `serialize` turned into `values`."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on disk."""

    root: str
    key: str  # path below the root, with forward slashes
    fingerprint: bytes  # b"": unknown, and not compared

    @property
    def path(self) -> Path:
        return Path(self.root, self.key)

    @property
    def archive_path(self) -> str:
        return ""

    @property
    def fork_safe(self) -> bool:
        return True  # opened for each read

    def head(self) -> bytes:
        """The first HEAD_BYTES bytes. Raises FileError."""
        return read_file(os.path.join(self.root, self.key), sys.maxsize, self.fingerprint, HEAD_BYTES)

    def read(self, max_bytes: int = MAX_BYTES) -> bytes:
        # Not `self.path`: a Path would intern each of its parts.
        return read_file(os.path.join(self.root, self.key), max_bytes, self.fingerprint)

    def serialize(self) -> tuple[SourceRoot, list[Any]]:
        return _FolderRoot(self.root), [self.key, self.fingerprint.hex()]


class _FolderRoot(NamedTuple):
    folder: str

    def deserialize(self, values: list[Any]) -> ImageSource:
        return LocalFile(self.folder, values[0], bytes.fromhex(values[1]))


@dataclass(frozen=True, slots=True)
class Verified:
    """A source with a known sha256; `read` refuses any other content."""

    inner: ImageSource
    sha256: str  # hexadecimal, lower case

    @property
    def fingerprint(self) -> bytes:
        return self.inner.fingerprint + self.sha256.encode()

    @property
    def archive_path(self) -> str:
        return self.inner.archive_path

    @property
    def fork_safe(self) -> bool:
        return self.inner.fork_safe

    def read(self) -> bytes:
        content = self.inner.read()
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise FileError("its sha256 is not the one in the metadata: the file was changed or damaged")
        return content

    def serialize(self) -> tuple[SourceRoot, list[Any]]:
        root, values = self.inner.serialize()
        return _VerifiedRoot(root), [self.sha256, values]


class _VerifiedRoot(NamedTuple):
    inner: SourceRoot

    def deserialize(self, values: list[Any]) -> ImageSource:
        return Verified(self.inner.deserialize(values[1]), values[0])


def stat_fingerprint(info: os.stat_result) -> bytes:
    """Pack the size and times of a file, which change when its content does."""
    return struct.pack("<3q", info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def read_file(path: Path | str, max_bytes: int = MAX_BYTES, fingerprint: bytes = b"", size: int = -1) -> bytes:
    """Read one regular file whole. Raises FileError; pipes and devices are never opened.

    Args:
        size: bytes to read from its start; -1: all.
        fingerprint: of the file when it was listed; a file that has changed since is refused. b"": no comparison.
    """
    for attempt in (1, 2):
        try:
            return _read(path, max_bytes, fingerprint, size)
        except OSError as error:
            if error.errno != errno.EIO or attempt == 2:  # network folders sometimes fail once
                raise FileError(f"cannot be read: {explain(error)}") from None
    raise AssertionError("unreachable")


def _read(path: Path | str, max_bytes: int, fingerprint: bytes, size: int) -> bytes:
    if not fingerprint and not stat.S_ISREG(os.stat(path).st_mode):
        raise FileError("not a regular file")
    # Should the file have been swapped for a pipe, O_NONBLOCK keeps open() from waiting.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb", buffering=0) as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise FileError("not a regular file")
        if info.st_size > max_bytes:
            raise FileError(too_large(max_bytes))
        if fingerprint and fingerprint != stat_fingerprint(info):
            raise FileError("it has changed since it was listed")
        return file.read(size)


def too_large(max_bytes: int) -> str:
    """The reason for which a larger file is refused."""
    return f"larger than {max_bytes / 2**20:g} MB"


def explain(error: OSError) -> str:
    """Say in a few words why the system cannot read a file or folder."""
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, PermissionError):
        return "permission denied"
    if error.errno == errno.ELOOP:
        return "it is a link that leads to itself"
    return error.strerror or type(error).__name__


def one_line(error: Exception) -> str:
    """The message of an exception from another library on one line, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
