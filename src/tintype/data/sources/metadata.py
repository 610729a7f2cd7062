"""Metadata files: rows of captions for files in the same folder or below it."""

from __future__ import annotations

import io
import json
import posixpath
import re
import unicodedata
from collections.abc import Callable, Container, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from tintype.config import DataConfig
from tintype.data.sources.captions import MAX_CAPTION_BYTES, TOO_LONG, decode_text, row_captions
from tintype.data.sources.files import FileError
from tintype.data.sources.metadata_csv import csv_rows
from tintype.data.sources.names import substitute
from tintype.data.sources.pairs import Problem
from tintype.data.sources.parquet import metadata_rows
from tintype.data.sources.walk import OUTSIDE, File, Folder
from tintype.errors import MissingExtraError

METADATA_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")  # the first in a folder is used
MISSING = "the file it names is missing (file_name is relative to the metadata file)"
LEADS_OUT = "its file_name leads out of the folder of the metadata file"
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class Row(NamedTuple):
    """One line of a metadata file: captions for a file, or the reason why it gives none."""

    line: int
    file_name: str
    captions: tuple[str, ...]
    reason: str
    sha256: str = ""  # of the file, where the row has one


class Captioned(NamedTuple):
    """The captions of a file by its rows."""

    where: str  # FILE:LINE of the first row
    file_name: str  # as that row has it
    captions: tuple[str, ...]
    sha256: str  # "" if no row has one
    is_substitute: bool = False  # for a caption that the row lacks


class Metadata:
    """Rows of the metadata files read so far, until their files are found."""

    def __init__(self, options: DataConfig, report: Callable[[Problem], None]) -> None:
        self._options = options
        self._report = report
        self._rows: dict[str, Captioned] = {}  # by the key of the file, in the row's own Unicode form
        self._forms: dict[str, list[str]] = {}  # keys of the rows by their NFC, where they are not ASCII
        self._reported: set[str] = set()  # keys in NFC of files whose only row was reported as a problem

    def read_folder(self, folder: Folder) -> None:
        """Read the metadata file of a folder, the first that can be used."""
        used = ""
        for name in sorted(set(folder.names) & set(METADATA_NAMES), key=METADATA_NAMES.index):
            path = folder.prefix + name
            if used:
                self._report(Problem(path, f"not used: {used} lies in the same folder", False))
                continue
            entry = folder.entry(name)
            try:
                if entry.reason or entry.outside:
                    raise FileError(entry.reason or OUTSIDE)
                for row in read_metadata(name, entry.source, self._options.caption_encoding):
                    self._add(folder, f"{path}:{row.line}", row)
                used = name
            except (FileError, MissingExtraError) as error:
                self._report(Problem(path, str(error)))

    def pop(self, key: str, names: Container[str]) -> Captioned | None:
        """Take out the rows of a file in a folder with these `names`."""
        row_key = self._find(key, names)
        return None if row_key is None else self._rows.pop(row_key)

    def has_row(self, key: str, names: Container[str]) -> bool:
        """Whether a row captions this file, in a folder with these `names`."""
        return self._find(key, names) is not None

    def was_reported(self, key: str) -> bool:
        """Whether a row names this file but has no caption, which was reported."""
        return nfc(key) in self._reported

    def missing(self) -> Iterator[Problem]:
        """Report the rows whose files were not found."""
        return (Problem(f"{row.where}: {row.file_name}", MISSING) for row in self._rows.values())

    def _find(self, key: str, names: Container[str]) -> str | None:
        """The key under which a file has rows: its own, or in another Unicode form unless that is another file's."""
        if key in self._rows or key.isascii():
            return key if key in self._rows else None
        for other in self._forms.get(nfc(key), ()):
            name = posixpath.basename(other)
            if other in self._rows and (name == posixpath.basename(key) or name not in names):
                return other
        return None

    def _add(self, folder: Folder, where: str, row: Row) -> None:
        captions = row.captions
        if row.reason and row.file_name:
            captions = substitute(self._options, folder.prefix + row.file_name, row.reason)
        key = _key(folder, row.file_name) if row.file_name else ""
        if not captions:
            self._report(Problem(where, row.reason))
            self._reported.add(nfc(key))
        elif not key:
            self._report(Problem(f"{where}: {row.file_name}", LEADS_OUT))
        else:
            self._merge(key, Captioned(where, row.file_name, captions, row.sha256, bool(row.reason)))

    def _merge(self, key: str, row: Captioned) -> None:
        """Add the captions of a row to those of earlier rows of the same file: some tables have a row a caption."""
        earlier = self._rows.get(key)
        if earlier is None:
            self._rows[key] = row
            if not key.isascii():
                self._forms.setdefault(nfc(key), []).append(key)
            return
        if earlier.sha256 and row.sha256 not in ("", earlier.sha256):
            self._report(Problem(row.where, "a second row for the same file with another sha256: the first is used"))
            return
        if earlier.is_substitute or row.is_substitute:
            captions = row.captions if earlier.is_substitute else earlier.captions
        else:
            captions = tuple(dict.fromkeys((*earlier.captions, *row.captions)))
            if len(captions) == len(earlier.captions):
                self._report(Problem(row.where, "a second row for the same file with the same caption", False))
        if sum(len(caption.encode()) for caption in captions) > MAX_CAPTION_BYTES:
            self._report(Problem(row.where, TOO_LONG))
            return
        self._rows[key] = earlier._replace(
            captions=captions,
            sha256=earlier.sha256 or row.sha256,
            is_substitute=earlier.is_substitute and row.is_substitute,
        )


def _key(folder: Folder, name: str) -> str:
    """The key of the file that a row names, however its path is written; "" if it leads out of the folder."""
    if not folder.contains(name) or name.startswith(("/", "..")):
        name = _relative(folder, name.replace("\\", "/"))
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or _DRIVE.match(name):
        return ""
    return str(PurePosixPath(folder.prefix) / path)


def _relative(folder: Folder, name: str) -> str:
    """A path as it is seen from the folder: an absolute path into it, or one that begins with its own last names."""
    for location in filter(None, folder.locations):
        path = posixpath.normpath(posixpath.join(location, name))
        if path.startswith(f"{location}/"):
            name = path[len(location) + 1 :]
            break
    parts, above = PurePosixPath(name).parts, PurePosixPath(folder.locations[0]).parts
    for number in range(1, min(len(parts), len(above) + 1)):
        rest = posixpath.join(*parts[number:])
        if above[-number:] == parts[:number] and folder.contains(rest) and not folder.contains(name):
            return rest
    return name


def nfc(key: str) -> str:
    """A name in Unicode's form NFC, in which names are compared."""
    return key if key.isascii() else unicodedata.normalize("NFC", key)


def read_metadata(name: str, file: File, encoding: str = "utf-8") -> Iterator[Row]:
    """Read the rows of a metadata file by its suffix. Raises FileError if the file as a whole cannot be used."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".parquet":
        return (parse_row(number, values) for number, values in metadata_rows(file))
    text = decode_text(file.read(), encoding)
    return _csv_rows(text) if suffix == ".csv" else _jsonl_rows(text)


def _jsonl_rows(text: str) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            yield Row(number, "", (), "the line is not JSON")
            continue
        if not isinstance(values, dict):
            yield Row(number, "", (), "the line is not a JSON object")
            continue
        yield parse_row(number, values)


def _csv_rows(text: str) -> Iterator[Row]:
    for number, values in csv_rows(text):
        yield Row(number, "", (), values) if isinstance(values, str) else parse_row(number, values)


def parse_row(number: int, values: dict[str, object]) -> Row:
    """Turn the columns of one line into a row."""
    name = values.get("file_name")
    if not isinstance(name, str) or not name.strip():
        return Row(number, "", (), "the row has no file_name")
    captions, reason = ((), TOO_LONG) if TOO_LONG in values else row_captions(values)
    sha256 = values.get("sha256")
    return Row(number, name, captions, reason, sha256.strip().lower() if isinstance(sha256, str) else "")
