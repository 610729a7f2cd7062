"""Captions from metadata files: rows that name the files they speak of, in the same folder or below it."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tintype.config import DataConfig
from tintype.data.sources.captions import METADATA_NAMES, Row, read_metadata
from tintype.data.sources.files import FileError
from tintype.data.sources.pairs import Problem, substitute
from tintype.errors import MissingExtraError

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class Captioned(NamedTuple):
    """What a row says of its file."""

    where: str  # FILE:LINE
    captions: tuple[str, ...]
    sha256: str  # "" if the row has none


class Metadata:
    """The rows of all metadata files met so far whose files were not met yet."""

    def __init__(self, root: Path, options: DataConfig, note: Callable[[Problem], None]) -> None:
        self._root = root
        self._options = options
        self._note = note
        self._rows: dict[str, Captioned] = {}  # by the key of the file, in NFC
        self._of_no_use: set[str] = set()  # keys of files whose only row was listed as a problem

    def read_folder(self, prefix: str, names: Sequence[str]) -> None:
        """Read the metadata file of a folder, the first of `names` that is of use."""
        used = ""
        for name in sorted(set(names) & set(METADATA_NAMES), key=METADATA_NAMES.index):
            if used:
                self._note(Problem(prefix + name, f"{used} is beside it and is used instead", False))
                continue
            try:
                for row in read_metadata(self._root / prefix / name, self._options.caption_encoding):
                    self._take(prefix, f"{prefix}{name}:{row.line}", row)
                used = name
            except (FileError, MissingExtraError) as error:
                self._note(Problem(prefix + name, str(error)))

    def take(self, key: str) -> Captioned | None:
        """What the metadata say of a file; each file is asked for once."""
        return self._rows.pop(nfc(key), None)

    def names(self, key: str) -> bool:
        """Whether some row captions this file."""
        return nfc(key) in self._rows

    def was_listed(self, key: str) -> bool:
        """Whether a row names this file but has no caption, which was listed already."""
        return nfc(key) in self._of_no_use

    def missing(self) -> Iterator[Problem]:
        """The rows whose files were never met."""
        return (Problem(row.where, "the file it names is missing") for row in self._rows.values())

    def _take(self, prefix: str, where: str, row: Row) -> None:
        captions = row.captions
        if row.reason and row.file_name:
            captions = substitute(self._options.no_caption, row.file_name, row.reason)
        key = self._key(prefix, row.file_name) if row.file_name else ""
        if not captions:
            self._note(Problem(where, row.reason))
            self._of_no_use.add(key)
        elif not key:
            self._note(Problem(where, "its file_name leads outside of the data folder"))
        elif key in self._rows:
            self._note(Problem(where, "a second row for the same file: the first is used"))
        else:
            self._rows[key] = Captioned(where, captions, row.sha256)

    def _key(self, prefix: str, name: str) -> str:
        """The key of the file that a row names, however its path is written; "" if that leads out of the folder."""
        slashes = name if os.path.lexists(self._root / prefix / name) else name.replace("\\", "/")
        path = PurePosixPath(slashes)
        if path.is_absolute() or ".." in path.parts or _DRIVE.match(name):
            return ""
        return nfc(str(PurePosixPath(prefix) / path))


def nfc(key: str) -> str:
    """A name in Unicode's form NFC, in which names are compared."""
    return key if key.isascii() else unicodedata.normalize("NFC", key)
