"""Captions from metadata files: rows that name the files they speak of, in the same folder or below it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tintype.config import DataConfig
from tintype.data.sources.captions import CAPTION_FIELDS, decode_text, row_captions
from tintype.data.sources.files import FileError, read_file
from tintype.data.sources.pairs import Problem, substitute
from tintype.data.sources.parquet import metadata_rows
from tintype.errors import MissingExtraError

METADATA_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")  # the first in a folder is used
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class Row(NamedTuple):
    """One line of a metadata file: either captions for a file, or a reason why the line is of no use."""

    line: int
    file_name: str
    captions: tuple[str, ...]
    reason: str
    sha256: str = ""  # of the file, where the row has one


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


def read_metadata(path: Path, encoding: str = "utf-8") -> Iterator[Row]:
    """Read the rows of a metadata file by its suffix. Raises FileError if the file as a whole is of no use."""
    if path.suffix.lower() == ".parquet":
        return (row_of(number, values) for number, values in metadata_rows(path))
    text = decode_text(read_file(path), encoding)
    return _rows_of_csv(text) if path.suffix.lower() == ".csv" else _rows_of_jsonl(text)


def _rows_of_jsonl(text: str) -> Iterator[Row]:
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
        yield row_of(number, values)


def _rows_of_csv(text: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = [str(name) for name in reader.fieldnames or []]
    if "file_name" not in columns or not set(CAPTION_FIELDS) & set(columns):
        found = ", ".join(columns[:6]) or "nothing"
        raise FileError(f"it needs the columns file_name and text; its first line has: {found}")
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(reader.line_num, "", (), f"the line is not CSV: {error}")
            continue
        yield row_of(reader.line_num, dict(values))


def row_of(number: int, values: dict[str, object]) -> Row:
    """Judge one row of a metadata file, by column."""
    name = values.get("file_name")
    if not isinstance(name, str) or not name.strip():
        return Row(number, "", (), "the row has no file_name")
    captions, reason = row_captions(values)
    sha256 = values.get("sha256")
    return Row(number, name, captions, reason, sha256.strip().lower() if isinstance(sha256, str) else "")
