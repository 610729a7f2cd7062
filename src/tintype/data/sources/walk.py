"""Folders and the files in them, listed without following links in circles; hidden files and junk are passed over."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from tintype.data.sources.files import MAX_BYTES, ImageSource, LocalFile, explain, stat_fingerprint
from tintype.data.sources.remote import Archive, local_archive

OUTSIDE = "a link to a file outside the data folder: copy the file there"  # of captions and metadata
RUN = "a run or model of Tintype, which is not read as data"
_RUN_CONFIG = "config.json"
_RUN_PARTS = frozenset({"model.safetensors", "start.json", "checkpoints"})  # beside it, one of these
_JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx", "ehthumbs.db", "$recycle.bin"})


class File(ImageSource, Protocol):
    """A file that may be a picture or a text."""

    def head(self) -> bytes:
        """Its first HEAD_BYTES bytes, or all of a shorter file. Raises FileError."""

    def read(self, max_bytes: int = MAX_BYTES) -> bytes:
        """Read the whole file. Raises FileError, also if it is larger than `max_bytes`."""


class Entry(NamedTuple):
    """A file in a folder."""

    key: str  # path relative to the root, with forward slashes
    source: File
    reason: str  # why it cannot be read; "" for a regular file
    outside: bool = False  # whether it is a link to a file outside the data folder


class Folder(Protocol):
    """The files of one folder, on disk or in an archive."""

    @property
    def prefix(self) -> str:
        """Start of the keys of its files: "" or a path below the root that ends in a slash."""

    @property
    def locations(self) -> Sequence[str]:
        """Its paths, at least one, absolute on disk or else within its archive, without a slash at the end."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the files in it, sorted."""

    @property
    def reason(self) -> str:
        """Why the folder cannot be read; "" if it can."""

    @property
    def outside(self) -> bool:
        """Whether it is a link to a folder outside the data folder."""

    def entry(self, name: str) -> Entry:
        """Look up one of its files."""

    def archive(self, name: str) -> Archive | None:
        """Open one of its files as an archive; None inside an archive."""

    def contains(self, path: str) -> bool:
        """Whether there is anything at a path relative to this folder."""


class LocalFolder(NamedTuple):
    """A folder on disk."""

    root: str
    prefix: str
    names: list[str]
    reason: str
    links: frozenset[str] = frozenset()  # those of the names that are links
    outside: bool = False  # whether the folder was reached by a link and lies outside the root

    @property
    def locations(self) -> Sequence[str]:
        path = os.path.join(self.root, self.prefix)
        return [os.path.abspath(path).replace(os.sep, "/"), os.path.realpath(path).replace(os.sep, "/")]

    def entry(self, name: str) -> Entry:
        path, key = os.path.join(self.root, self.prefix, name), self.prefix + name
        try:
            info = os.stat(path)
        except OSError as error:
            broken = isinstance(error, FileNotFoundError) and os.path.islink(path)
            reason = "a broken link" if broken else f"cannot be read: {explain(error)}"
            return Entry(key, LocalFile(self.root, key, b""), reason)
        reason = "" if stat.S_ISREG(info.st_mode) else "not a regular file"
        outside = name in self.links and _is_outside(self.root, path)
        return Entry(key, LocalFile(self.root, key, stat_fingerprint(info)), reason, outside)

    def archive(self, name: str) -> Archive:
        return local_archive(Path(self.root, self.prefix, name))

    def contains(self, path: str) -> bool:
        return os.path.lexists(os.path.join(self.root, self.prefix, path))


def walk(root: Path) -> Iterator[LocalFolder]:
    """Yield a folder and those below it, without hidden ones and junk, each once, parents before children.

    Folders that are links come last.
    """
    seen: set[tuple[int, int]] = set()
    base = str(root)
    pending: list[str] = [""]
    linked: list[str] = []
    outer: set[str] = set()  # prefixes of folders that are links
    while pending or linked:
        prefix = pending.pop() if pending else linked.pop(0)
        folder = os.path.join(base, prefix)
        try:
            info = os.stat(folder)
            if (info.st_dev, info.st_ino) in seen:
                continue  # a link back to a folder that was already walked
            seen.add((info.st_dev, info.st_ino))
            files, folders, links, linked_files = _scan(folder)
            if prefix and is_run(files + folders):
                yield LocalFolder(base, prefix, [], RUN)
                continue
        except OSError as error:
            yield LocalFolder(base, prefix, [], f"the folder cannot be read: {explain(error)}")
            continue
        pending += [f"{prefix}{name}/" for name in sorted(folders, reverse=True)]
        linked += [f"{prefix}{name}/" for name in sorted(links)]
        outer.update(f"{prefix}{name}/" for name in links)
        outside = prefix in outer and _is_outside(base, folder)
        yield LocalFolder(base, prefix, sorted(files), "", linked_files, outside)


def _is_outside(root: str, path: str) -> bool:
    """Whether a path leads out of a folder once all links are followed."""
    real, base = os.path.realpath(path), os.path.realpath(root)
    return os.path.commonpath([real, base]) != base


def is_run(names: Collection[str]) -> bool:
    """Whether a folder with these files and folders is a run or a model."""
    return _RUN_CONFIG in names and not _RUN_PARTS.isdisjoint(names)


class RunsInArchive:
    """Finds the runs and models in an archive by the paths of its members."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}  # that tell a run, by folder

    def add(self, path: str) -> None:
        """Note a member; folders above it need no members of their own."""
        start = 0
        for name in path.split("/"):
            if name == _RUN_CONFIG or name in _RUN_PARTS:
                self._names.setdefault(path[:start], set()).add(name)
            start += len(name) + 1

    def outermost(self) -> tuple[str, ...]:
        """The runs that lie in no other: "" for the archive itself, or paths that end in a slash."""
        runs: list[str] = []
        for folder in sorted(self._names):
            if is_run(self._names[folder]) and not folder.startswith(tuple(runs)):
                runs.append(folder)
        return tuple(runs)


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden, or was left by an operating system."""
    return name.startswith(".") or name.lower() in _JUNK


def _scan(folder: str) -> tuple[list[str], list[str], list[str], frozenset[str]]:
    """Names of the files, folders, and links to folders in a folder, and those files that are links. Raises OSError."""
    files: list[str] = []
    folders: list[str] = []
    links: list[str] = []
    linked_files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_junk(entry.name):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link that leads to itself
                is_folder = False
            names = files if not is_folder else links if entry.is_symlink() else folders
            names.append(entry.name)
            if names is files and entry.is_symlink():
                linked_files.append(entry.name)
    return files, folders, links, frozenset(linked_files)
