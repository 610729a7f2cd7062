"""Walk and read a user's folder without ever changing it, hanging on it or following it in circles."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tintype.errors import DataError

MAX_BYTES = 512 * 2**20  # of one file
_JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx", "ehthumbs.db", "$recycle.bin"})


class FileError(DataError):
    """One file cannot be used; the message is the reason, without the file's name."""


class Entry(NamedTuple):
    """A file met on a walk."""

    key: str  # path relative to the root, with forward slashes
    path: Path
    reason: str  # why it cannot be read; "" for a regular file


def walk(root: Path) -> Iterator[Entry]:
    """List the files below a folder, hidden ones and junk left out; linked folders come last and each folder once."""
    seen: set[tuple[int, int]] = set()
    pending: list[tuple[Path, str]] = [(root, "")]
    linked: list[tuple[Path, str]] = []
    while pending or linked:
        folder, prefix = pending.pop() if pending else linked.pop(0)
        try:
            info = os.stat(folder)
            if (info.st_dev, info.st_ino) in seen:
                continue  # a link back to a folder that was already walked
            seen.add((info.st_dev, info.st_ino))
            names = sorted(os.listdir(folder))
        except OSError as error:
            yield Entry(prefix.rstrip("/") or ".", folder, f"the folder {_why(error)}")
            continue
        for name in names:
            if name.startswith(".") or name.lower() in _JUNK:
                continue
            path, key = folder / name, prefix + name
            try:
                mode = os.stat(path).st_mode
            except OSError as error:
                yield Entry(key, path, "a link that leads nowhere" if path.is_symlink() else _why(error))
                continue
            if stat.S_ISDIR(mode):
                (linked if path.is_symlink() else pending).append((path, key + "/"))
            else:
                yield Entry(key, path, "" if stat.S_ISREG(mode) else "not a regular file")


def read_file(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Read one regular file whole. Raises FileError; pipes and devices are never opened."""
    for attempt in (1, 2):
        try:
            return _read(path, max_bytes)
        except OSError as error:
            if error.errno != errno.EIO or attempt == 2:  # network folders sometimes fail once
                raise FileError(_why(error)) from None
    raise AssertionError("unreachable")


def _read(path: Path, max_bytes: int) -> bytes:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise FileError("not a regular file")
    # Should the file be swapped for a pipe at this moment, O_NONBLOCK keeps open() from waiting.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise FileError("not a regular file")
        if info.st_size > max_bytes:
            raise FileError(f"larger than {max_bytes / 2**20:g} MB")
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
