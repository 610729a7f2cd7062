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
from typing import NamedTuple, Protocol

from tintype.errors import DataError

MAX_BYTES = 512 * 2**20  # of one file
_JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx", "ehthumbs.db", "$recycle.bin"})


class FileError(DataError):
    """One file cannot be used; the message is the reason, without the file's name."""


class Place(Protocol):
    """Where the bytes of one picture lie."""

    @property
    def state(self) -> bytes:
        """What was known of it when it was listed: it differs once the content has changed."""

    def read(self) -> bytes:
        """Read it whole. Raises FileError."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of its own."""

    root: str
    key: str  # path below the root, with forward slashes
    state: bytes

    @property
    def path(self) -> Path:
        return Path(self.root, self.key)

    def read(self) -> bytes:
        return read_file(os.path.join(self.root, self.key), state=self.state)


@dataclass(frozen=True, slots=True)
class Verified:
    """A place whose content was given a sha256: any other content is refused."""

    place: Place
    sha256: str  # hexadecimal, lower case

    @property
    def state(self) -> bytes:
        return self.place.state + self.sha256.encode()

    def read(self) -> bytes:
        content = self.place.read()
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise FileError("its sha256 is not the one in the metadata: it was changed or damaged")
        return content


class Entry(NamedTuple):
    """A file met on a walk."""

    key: str  # path relative to the root, with forward slashes
    place: LocalFile
    reason: str  # why it cannot be read; "" for a regular file

    @property
    def path(self) -> Path:
        return self.place.path


def walk(root: Path) -> Iterator[Entry]:
    """List the files below a folder, hidden ones and junk left out; linked folders come last and each folder once."""
    seen: set[tuple[int, int]] = set()
    base = str(root)
    pending: list[tuple[str, str]] = [(base, "")]
    linked: list[tuple[str, str]] = []
    while pending or linked:
        folder, prefix = pending.pop() if pending else linked.pop(0)
        try:
            info = os.stat(folder)
            if (info.st_dev, info.st_ino) in seen:
                continue  # a link back to a folder that was already walked
            seen.add((info.st_dev, info.st_ino))
            names = sorted(os.listdir(folder))
        except OSError as error:
            yield Entry(prefix.rstrip("/") or ".", LocalFile(base, prefix, b""), f"the folder {_why(error)}")
            continue
        for name in names:
            if name.startswith(".") or name.lower() in _JUNK:
                continue
            path, key = os.path.join(folder, name), prefix + name
            try:
                info = os.stat(path)
            except OSError as error:
                dangling = isinstance(error, FileNotFoundError) and os.path.islink(path)
                why = "a link that leads nowhere" if dangling else _why(error)
                yield Entry(key, LocalFile(base, key, b""), why)
                continue
            if stat.S_ISDIR(info.st_mode):
                (linked if os.path.islink(path) else pending).append((path, key + "/"))
            else:
                reason = "" if stat.S_ISREG(info.st_mode) else "not a regular file"
                yield Entry(key, LocalFile(base, key, state_of(info)), reason)


def state_of(info: os.stat_result) -> bytes:
    """Size and times of a file: what changes when its content does."""
    return struct.pack("<3q", info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def read_file(path: Path | str, max_bytes: int = MAX_BYTES, state: bytes = b"") -> bytes:
    """Read one regular file whole. Raises FileError; pipes and devices are never opened.

    `state`: of the file when it was listed; one that has changed since is refused.
    """
    for attempt in (1, 2):
        try:
            return _read(path, max_bytes, state)
        except OSError as error:
            if error.errno != errno.EIO or attempt == 2:  # network folders sometimes fail once
                raise FileError(_why(error)) from None
    raise AssertionError("unreachable")


def _read(path: Path | str, max_bytes: int, state: bytes) -> bytes:
    if not state and not stat.S_ISREG(os.stat(path).st_mode):
        raise FileError("not a regular file")
    # Should the file have been swapped for a pipe, O_NONBLOCK keeps open() from waiting.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb", buffering=0) as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise FileError("not a regular file")
        if info.st_size > max_bytes:
            raise FileError(f"larger than {max_bytes / 2**20:g} MB")
        if state and state != state_of(info):
            raise FileError("it has changed since it was listed")
        return file.read()


def shown(text: str) -> str:
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
