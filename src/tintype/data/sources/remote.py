"""Archives, read by offset, on this machine or at any URL that fsspec knows."""

from __future__ import annotations

import glob
import itertools
import math
import os
import posixpath
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from tintype.data.sources.files import FileError, one_line, stat_fingerprint
from tintype.errors import DataError, MissingExtraError
from tintype.printable import printable

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
MAX_EXPANDED = 1_000_000  # names that one pattern may stand for


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """A file with pictures inside, on this machine or at `path` of an fsspec file system."""

    path: str
    fingerprint: bytes
    size: int  # bytes
    file_system: Any = None  # of fsspec; None: on this machine

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open it for reading from the start. Raises FileError or OSError."""
        if self.file_system is not None:
            with self.file_system.open(self.path, "rb") as file:
                yield cast(IO[bytes], file)
            return
        with open(self.path, "rb") as file:
            if stat_fingerprint(os.fstat(file.fileno())) != self.fingerprint:
                raise FileError("it has changed since it was listed")
            yield file

    def read(self, offset: int, size: int) -> bytes:
        """Read `size` bytes at `offset`. Raises FileError."""
        try:
            if self.file_system is not None:
                content: bytes = self.file_system.cat_file(self.path, start=offset, end=offset + size)
            else:
                with self.open() as file:
                    file.seek(offset)
                    content = file.read(size)
        except FileError:
            raise
        except Exception as error:  # each file system raises its own
            raise FileError(f"cannot be read: {one_line(error)}") from None
        if len(content) > size:
            raise FileError("the server sends only whole files, not parts of them: copy the archive to this machine")
        if len(content) != size:
            raise FileError("the archive is cut short inside this file")
        return content


def is_url(data: str) -> bool:
    """Whether `data` is a URL such as s3://bucket/train-{000..009}.tar rather than a path."""
    return _URL.match(data) is not None


def local_archive(path: Path) -> Archive:
    """Open a file on this machine as an archive. Raises DataError if it is not a regular file."""
    try:
        info = os.stat(path)
    except OSError as error:
        raise DataError(f"{printable(str(path))} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(info.st_mode):
        raise DataError(f"{printable(str(path))} is not a regular file")
    return Archive(str(path), stat_fingerprint(info), info.st_size)


def remote_archives(url: str) -> list[tuple[str, Archive]]:
    """Find the archives, with their names, at a URL: braces and stars expanded, or all .tar files of a folder.

    Raises DataError or MissingExtraError.
    """
    archives: list[tuple[str, Archive]] = []
    for single in expand(url):
        file_system, path = _file_system(single)
        try:
            paths = sorted(file_system.glob(path)) if glob.has_magic(path) else [path]
            if len(paths) == 1 and file_system.isdir(paths[0]):
                paths = sorted(name for name in file_system.find(paths[0]) if name.endswith(".tar"))
            for name in paths:
                info = file_system.info(name)
                fingerprint = f"{file_system.ukey(name)}".encode()
                archives.append((posixpath.basename(name), Archive(name, fingerprint, int(info["size"]), file_system)))
        except FileNotFoundError:
            raise DataError(f"{printable(single)} cannot be read: there is no such file") from None
        except Exception as error:  # each file system raises its own
            raise DataError(f"{printable(single)} cannot be read: {one_line(error)}") from None
    if not archives:
        raise DataError(f"{printable(url)} holds no .tar files")
    return archives


def _file_system(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        file_system, path = url_to_fs(url)
    except ImportError as error:  # fsspec, or the package for this kind of URL; its message names it
        scheme = url.partition("://")[0]
        raise MissingExtraError(f"for {scheme} URLs ({error})", f"fsspec[{scheme}]") from None
    except ValueError as error:
        raise DataError(f"{printable(url)} cannot be read: {error}") from None
    return file_system, path


def expand(pattern: str) -> list[str]:
    """Expand the braces of a pattern, as WebDataset does: {000..009} counts, {a,b} lists. Raises DataError."""
    all_braces = [_Braces(match[1]) for match in _BRACES.finditer(pattern)]
    if math.prod(len(braces) for braces in all_braces) > MAX_EXPANDED:
        raise DataError(f"{printable(pattern)} stands for more than {MAX_EXPANDED:,} files")
    texts = _BRACES.split(pattern)[::2]
    return [
        "".join(itertools.chain.from_iterable(itertools.zip_longest(texts, parts, fillvalue="")))
        for parts in itertools.product(*(braces.parts() for braces in all_braces))
    ]


class _Braces:
    """The inside of one pair of braces: a range of numbers, or a list."""

    def __init__(self, text: str) -> None:
        self._text = text
        numbers = _RANGE.fullmatch(text)
        self._ends = None if numbers is None else (int(numbers[1]), int(numbers[2]))
        self._digits = 0 if numbers is None else len(numbers[1])

    def __len__(self) -> int:
        if self._ends is None:
            return self._text.count(",") + 1
        return min(abs(self._ends[1] - self._ends[0]) + 1, MAX_EXPANDED + 1)

    def parts(self) -> list[str]:
        if self._ends is None:
            return self._text.split(",")
        first, last = self._ends
        step = 1 if last >= first else -1
        return [f"{number:0{self._digits}d}" for number in range(first, last + step, step)]
