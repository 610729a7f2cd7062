"""Metadata files: rows of captions for files in the same folder or below it."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from tintype.config import DataConfig
from tintype.data.sources.captions import CAPTION_FIELDS, TOO_LONG, decode_text, row_captions, substitute
from tintype.data.sources.files import FileError
from tintype.data.sources.pairs import Problem
from tintype.data.sources.parquet import metadata_rows
from tintype.data.sources.walk import OUTSIDE, File, Folder
from tintype.errors import MissingExtraError

METADATA_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")  # the first in a folder is used
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class Row(NamedTuple):
    """One line of a metadata file: captions for a file, or the reason why it gives none."""

    line: int
    file_name: str
    captions: tuple[str, ...]
    reason: str
    sha256: str = ""  # of the file, where the row has one


class Captioned(NamedTuple):
    """The captions of a file by its row."""

    where: str  # FILE:LINE
    captions: tuple[str, ...]
    sha256: str  # "" if the row has none


class Metadata:
    """Rows of the metadata files read so far, until their files are found."""

    def __init__(self, options: DataConfig, report: Callable[[Problem], None]) -> None:
        self._options = options
        self._report = report
        self._rows: dict[str, Captioned] = {}  # by the key of the file, in NFC
        self._reported: set[str] = set()  # keys of files whose only row was reported as a problem

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

    def pop(self, key: str) -> Captioned | None:
        """Take out the row of a file."""
        return self._rows.pop(nfc(key), None)

    def has_row(self, key: str) -> bool:
        """Whether a row captions this file."""
        return nfc(key) in self._rows

    def was_reported(self, key: str) -> bool:
        """Whether a row names this file but has no caption, which was reported."""
        return nfc(key) in self._reported

    def missing(self) -> Iterator[Problem]:
        """Report the rows whose files were not found."""
        return (Problem(row.where, "the file it names is missing") for row in self._rows.values())

    def _add(self, folder: Folder, where: str, row: Row) -> None:
        captions = row.captions
        if row.reason and row.file_name:
            captions = substitute(self._options.no_caption, row.file_name, row.reason)
        key = _key(folder, row.file_name) if row.file_name else ""
        if not captions:
            self._report(Problem(where, row.reason))
            self._reported.add(key)
        elif not key:
            self._report(Problem(where, "its file_name leads outside the data folder"))
        elif key in self._rows:
            self._report(Problem(where, "a second row for the same file: the first is used"))
        else:
            self._rows[key] = Captioned(where, captions, row.sha256)


def _key(folder: Folder, name: str) -> str:
    """The key of the file that a row names, however its path is written; "" if it leads out of the data."""
    path = PurePosixPath(name if folder.contains(name) else name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or _DRIVE.match(name):
        return ""
    return nfc(str(PurePosixPath(folder.prefix) / path))


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
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = [str(name) for name in reader.fieldnames or []]
    if "file_name" not in columns or not set(CAPTION_FIELDS) & set(columns):
        first_line = ", ".join(columns[:6]) or "nothing"
        raise FileError(f"it needs the columns file_name and text; its first line has: {first_line}")
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(reader.line_num, "", (), f"the line is not CSV: {error}")
            continue
        yield parse_row(reader.line_num, dict(values))


def parse_row(number: int, values: dict[str, object]) -> Row:
    """Turn the columns of one line into a row."""
    name = values.get("file_name")
    if not isinstance(name, str) or not name.strip():
        return Row(number, "", (), "the row has no file_name")
    captions, reason = ((), TOO_LONG) if TOO_LONG in values else row_captions(values)
    sha256 = values.get("sha256")
    return Row(number, name, captions, reason, sha256.strip().lower() if isinstance(sha256, str) else "")
