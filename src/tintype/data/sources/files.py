"""Walk and read a user's folder without ever changing it, hanging on it or following it in circles."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tintype.errors import DataError

MAX_BYTES = 512 * 2**20  # of one file
_JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx", "ehthumbs.db", "$recycle.bin"})


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
    """A file of its own."""

    root: str
    key: str  # path below the root, with forward slashes
    fingerprint: bytes

    @property
    def path(self) -> Path:
        return Path(self.root, self.key)

    @property
    def archive_path(self) -> str:
        return ""

    @property
    def fork_safe(self) -> bool:
        return True  # opened for each read

    def read(self) -> bytes:
        return read_file(os.path.join(self.root, self.key), fingerprint=self.fingerprint)

    def serialize(self) -> tuple[SourceRoot, list[Any]]:
        return _Root(self.root), [self.key, self.fingerprint.hex()]


class _Root(NamedTuple):
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
            raise FileError("its sha256 is not the one in the metadata: it was changed or damaged")
        return content

    def serialize(self) -> tuple[SourceRoot, list[Any]]:
        root, values = self.inner.serialize()
        return _VerifiedRoot(root), [self.sha256, values]


class _VerifiedRoot(NamedTuple):
    inner: SourceRoot

    def deserialize(self, values: list[Any]) -> ImageSource:
        return Verified(self.inner.deserialize(values[1]), values[0])


class Folder(NamedTuple):
    """One folder met on a walk: the names of the files in it, sorted."""

    root: str
    prefix: str  # of the keys of its files: "" or a path below the root that ends in a slash
    names: list[str]
    reason: str  # why it cannot be read; "" if it can

    def entry(self, name: str) -> Entry:
        """Look at one of its files."""
        path, key = os.path.join(self.root, self.prefix, name), self.prefix + name
        try:
            info = os.stat(path)
        except OSError as error:
            dangling = isinstance(error, FileNotFoundError) and os.path.islink(path)
            return Entry(key, LocalFile(self.root, key, b""), "a link that leads nowhere" if dangling else _why(error))
        reason = "" if stat.S_ISREG(info.st_mode) else "not a regular file"
        return Entry(key, LocalFile(self.root, key, stat_fingerprint(info)), reason)


class Entry(NamedTuple):
    """A file in a folder."""

    key: str  # path relative to the root, with forward slashes
    source: LocalFile
    reason: str  # why it cannot be read; "" for a regular file


def walk(root: Path) -> Iterator[Folder]:
    """The folders below a folder and itself, without what is hidden and junk, each once, parents before children.

    Folders that are links come last.
    """
    seen: set[tuple[int, int]] = set()
    base = str(root)
    pending: list[str] = [""]
    linked: list[str] = []
    while pending or linked:
        prefix = pending.pop() if pending else linked.pop(0)
        folder = os.path.join(base, prefix)
        try:
            info = os.stat(folder)
            if (info.st_dev, info.st_ino) in seen:
                continue  # a link back to a folder that was already walked
            seen.add((info.st_dev, info.st_ino))
            files, folders, links = _listed(folder)
        except OSError as error:
            yield Folder(base, prefix, [], f"the folder {_why(error)}")
            continue
        pending += [f"{prefix}{name}/" for name in sorted(folders, reverse=True)]
        linked += [f"{prefix}{name}/" for name in sorted(links)]
        yield Folder(base, prefix, sorted(files), "")


def _listed(folder: str) -> tuple[list[str], list[str], list[str]]:
    """Names of the files, folders, and links to folders in a folder. Raises OSError."""
    files: list[str] = []
    folders: list[str] = []
    links: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name.lower() in _JUNK:
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link that loops
                is_folder = False
            kind = files if not is_folder else links if entry.is_symlink() else folders
            kind.append(name)
    return files, folders, links


def stat_fingerprint(info: os.stat_result) -> bytes:
    """Size and times of a file: what changes when its content does."""
    return struct.pack("<3q", info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def read_file(path: Path | str, max_bytes: int = MAX_BYTES, fingerprint: bytes = b"") -> bytes:
    """Read one regular file whole. Raises FileError; pipes and devices are never opened.

    `fingerprint`: of the file when it was listed; one that has changed since is refused.
    """
    for attempt in (1, 2):
        try:
            return _read(path, max_bytes, fingerprint)
        except OSError as error:
            if error.errno != errno.EIO or attempt == 2:  # network folders sometimes fail once
                raise FileError(_why(error)) from None
    raise AssertionError("unreachable")


def _read(path: Path | str, max_bytes: int, fingerprint: bytes) -> bytes:
    if not fingerprint and not stat.S_ISREG(os.stat(path).st_mode):
        raise FileError("not a regular file")
    # Should the file have been swapped for a pipe, O_NONBLOCK keeps open() from waiting.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb", buffering=0) as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise FileError("not a regular file")
        if info.st_size > max_bytes:
            raise FileError(f"larger than {max_bytes / 2**20:g} MB")
        if fingerprint and fingerprint != stat_fingerprint(info):
            raise FileError("it has changed since it was listed")
        return file.read()


def printable(text: str) -> str:
    """Make a file name or caption safe to print: control characters and undecodable bytes become escapes."""
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is no longer there"
    if isinstance(error, PermissionError):
        return "may not be read: permission denied"
    if error.errno == errno.ELOOP:
        return "is a link that loops"
    return f"cannot be read: {error.strerror or type(error).__name__}"
