"""Parquet: tables of captions for files, and tables with the pictures inside, as Hugging Face writes them."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tintype.config import DataConfig
from tintype.data.sources.captions import CAPTION_FIELDS, row_captions
from tintype.data.sources.files import MAX_BYTES, FileError, ImageSource, SourceRoot, stat_fingerprint
from tintype.data.sources.pair_list import PairList
from tintype.data.sources.pairs import Listing, Pair, Problem, substitute
from tintype.errors import MissingExtraError

PICTURE_COLUMNS = ("image", "picture", "img", "jpg", "jpeg", "png", "webp")  # the first that a table has is used
_ROWS = 1024  # captions read at once


class Table:
    """A Parquet file with pictures in one of its columns, read a row group at a time. Raises FileError."""

    def __init__(self, path: Path) -> None:
        self.fingerprint = stat_fingerprint(path.stat())
        self._file = _open(path)
        names = self._file.schema_arrow.names
        self.column = next((name for name in PICTURE_COLUMNS if name in names), "")
        self.texts = [name for name in CAPTION_FIELDS if name in names]
        self._lock = threading.Lock()
        self._group = -1
        self._cells: Any = None

    def captions(self) -> Iterator[tuple[int, int, dict[str, object]]]:
        """Row group, row in it, and the caption columns, for every row."""
        for group in range(self._file.metadata.num_row_groups):
            row = 0
            for batch in self._file.iter_batches(_ROWS, row_groups=[group], columns=self.texts):
                for values in batch.to_pylist():
                    yield group, row, values
                    row += 1

    def deserialize(self, values: list[Any]) -> ImageSource:
        """The picture in row `values[1]` of row group `values[0]`."""
        return Cell(self, values[0], values[1])

    def read(self, group: int, row: int) -> bytes:
        """The bytes of one picture. Raises FileError."""
        with self._lock:  # one row group is kept, since neighbors are asked for together
            if group != self._group:
                try:
                    self._cells = self._file.read_row_group(group, columns=[self.column]).column(0)
                except Exception as error:
                    raise FileError(f"damaged: {' '.join(str(error).split())}") from None
                self._group = group
            cell = self._cells[row].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise FileError("the table holds no picture in this row")
        if len(content) > MAX_BYTES:
            raise FileError(f"larger than {MAX_BYTES / 2**20:g} MB")
        return content


@dataclass(frozen=True, slots=True)
class Cell:
    """A picture inside a table."""

    table: Table
    group: int
    row: int

    @property
    def fingerprint(self) -> bytes:
        return self.table.fingerprint + struct.pack("<2q", self.group, self.row)

    @property
    def archive_path(self) -> str:
        return ""  # the order of a stream never depended on tables

    @property
    def fork_safe(self) -> bool:
        return False

    def read(self) -> bytes:
        return self.table.read(self.group, self.row)

    def serialize(self) -> tuple[SourceRoot, list[Any]]:
        return self.table, [self.group, self.row]


def list_table(path: Path, name: str, options: DataConfig) -> Listing:
    """The captioned pictures inside a Parquet file; keys are `name` and the number of the row."""
    try:
        table = Table(path)
        if not table.column or not table.texts:
            needs = f"a column of pictures ({', '.join(PICTURE_COLUMNS[:3])}) and one of captions (text)"
            return Listing((), (Problem(name, f"not read: it needs {needs}", False),))
        pairs, problems = PairList(), []
        for number, (group, row, values) in enumerate(table.captions()):
            key = f"{name}/{number:08d}"
            captions, reason = row_captions(values)
            captions = captions or substitute(options.no_caption, key, reason)
            if captions:
                pairs.append(Pair(key, Cell(table, group, row), captions))
            else:
                problems.append(Problem(key, reason))
        return Listing(pairs, tuple(problems), len(pairs) + len(problems))
    except FileError as error:
        return Listing((), (Problem(name, str(error)),))


def metadata_rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Number, from 1, and values of each row of a metadata.parquet. Raises FileError."""
    file = _open(path)
    names = file.schema_arrow.names
    if "file_name" not in names or not set(CAPTION_FIELDS) & set(names):
        raise FileError(f"it needs the columns file_name and text; it has: {', '.join(names[:6])}")
    columns = [name for name in ("file_name", "sha256", *CAPTION_FIELDS) if name in names]
    number = 0
    for batch in file.iter_batches(_ROWS, columns=columns):
        for values in batch.to_pylist():
            number += 1
            yield number, values


def _open(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "tintype[parquet]") from None
    try:
        return pyarrow.parquet.ParquetFile(path, memory_map=True)
    except Exception as error:
        raise FileError(f"not a Parquet file that can be read ({' '.join(str(error).split())})") from None
