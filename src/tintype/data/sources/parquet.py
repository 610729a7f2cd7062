"""Parquet: tables with pictures inside, as Hugging Face writes them, and tables of captions for files."""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tintype.config import DataConfig
from tintype.data.sources.captions import CAPTION_FIELDS, MAX_CAPTION_BYTES, TOO_LONG, row_captions
from tintype.data.sources.files import MAX_BYTES, FileError, ImageSource, SourceRoot, one_line, too_large
from tintype.data.sources.names import substitute
from tintype.data.sources.pair_list import PairList
from tintype.data.sources.pairs import Listing, Pair, Problem
from tintype.data.sources.remote import Archive
from tintype.data.sources.walk import File
from tintype.errors import MissingExtraError

PICTURE_COLUMNS = ("image", "picture", "img", "jpg", "jpeg", "png", "webp")  # the first that a table has is used
_ROWS = 64  # captions turned into text at once: at most 64 MB of them
_UNLIMITED = 2**63 - 1


class Table:
    """A Parquet file with pictures in one of its columns, read a row group at a time. Raises FileError."""

    def __init__(self, archive: Archive) -> None:
        if archive.file_system is not None:
            raise FileError("Parquet files at a URL are not read: copy it to this machine")
        self.fingerprint = archive.fingerprint
        self._file = _open(archive.path)
        names = self._file.schema_arrow.names
        self.column = next((name for name in PICTURE_COLUMNS if name in names), "")
        self.caption_columns = [name for name in CAPTION_FIELDS if name in names]
        self._lock = threading.Lock()
        self._group = -1
        self._cells: Any = None

    def captions(self) -> Iterator[tuple[int, int, dict[str, object]]]:
        """Yield the row group, the row in it and the caption columns of every row; see `_rows`."""
        for group in range(self._file.metadata.num_row_groups):
            rows = _rows(self._file.iter_batches(_ROWS, row_groups=[group], columns=self.caption_columns))
            yield from ((group, row, values) for row, values in enumerate(rows))

    def deserialize(self, values: list[Any]) -> ImageSource:
        """The picture in row `values[1]` of row group `values[0]`."""
        return Cell(self, values[0], values[1])

    def read(self, group: int, row: int) -> bytes:
        """The bytes of one picture. Raises FileError."""
        with self._lock:  # one row group is kept, since neighbors are read together
            if group != self._group:
                try:
                    self._cells = self._file.read_row_group(group, columns=[self.column]).column(0)
                except Exception as error:
                    raise FileError(f"damaged: {one_line(error)}") from None
                self._group = group
            cell = self._cells[row].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise FileError("this row holds no picture")
        if len(content) > MAX_BYTES:
            raise FileError(too_large(MAX_BYTES))
        return content


@dataclass(frozen=True, slots=True)
class Cell:
    """The picture in one row of a table."""

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


def list_parquet(archive: Archive, name: str, options: DataConfig) -> Listing:
    """List the captioned pictures inside a Parquet file; keys are `name` and the number of the row.

    Raises MissingExtraError without pyarrow.
    """
    try:
        table = Table(archive)
        if not table.column or not table.caption_columns:
            needs = f"a column of pictures ({', '.join(PICTURE_COLUMNS[:3])}) and one of captions (text)"
            return Listing((), (Problem(name, f"not read: it needs {needs}", False),))
        pairs, problems = PairList(), []
        for number, (group, row, values) in enumerate(table.captions()):
            key = f"{name}/{number:08d}"
            captions, reason = ((), TOO_LONG) if TOO_LONG in values else row_captions(values)
            captions = captions or substitute(options, key, reason)
            if captions:
                pairs.append(Pair(key, Cell(table, group, row), captions))
            else:
                problems.append(Problem(key, reason))
        return Listing(pairs, tuple(problems), len(pairs) + len(problems))
    except FileError as error:
        return Listing((), (Problem(name, str(error)),))


def metadata_rows(file: File) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the number, from 1, and the values of each row of a metadata.parquet. Raises FileError."""
    table = _open(io.BytesIO(file.read(_UNLIMITED)))
    names = table.schema_arrow.names
    if "file_name" not in names or not set(CAPTION_FIELDS) & set(names):
        raise FileError(f"it needs the columns file_name and text; it has: {', '.join(names[:6])}")
    columns = [name for name in ("file_name", "sha256", *CAPTION_FIELDS) if name in names]
    yield from enumerate(_rows(table.iter_batches(_ROWS, columns=columns)), start=1)


def _rows(batches: Iterable[Any]) -> Iterator[dict[str, object]]:
    """Yield the values of every row. A row with more than MAX_CAPTION_BYTES of text has the key TOO_LONG instead.

    Lengths are taken from Arrow before any text is made: a file of a few kB can hold gigabytes of one repeated text.
    """
    for batch in batches:
        sizes = [_text_bytes(column) for column in batch.columns]
        if sum(sizes) <= MAX_CAPTION_BYTES:
            yield from batch.to_pylist()
            continue
        for row in range(batch.num_rows):
            one = batch.slice(row, 1)
            too_long = sum(_text_bytes(column) for column in one.columns) > MAX_CAPTION_BYTES
            yield {TOO_LONG: True} if too_long else one.to_pylist()[0]


def _text_bytes(column: Any) -> int:
    """The bytes of all text in a column, lists and dictionaries included, without making any of it."""
    import pyarrow.compute as pc
    import pyarrow.types as types

    kind = column.type
    if types.is_dictionary(kind):
        lengths = pc.binary_length(column.dictionary) if _is_text(kind.value_type) else None
        return 0 if lengths is None else pc.sum(pc.take(lengths, column.indices)).as_py() or 0
    if types.is_list(kind) or types.is_large_list(kind):
        return _text_bytes(column.flatten())
    return pc.sum(pc.binary_length(column)).as_py() or 0 if _is_text(kind) else 0


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary))


def _open(file: str | io.BytesIO) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "tintype[parquet]") from None
    try:
        table = pyarrow.parquet.ParquetFile(file, memory_map=isinstance(file, str))
        # Texts and pictures stay as the dictionary that the file has of them: repeated ones are in memory once.
        leaves = [table.schema.column(index) for index in range(len(table.schema))]
        repeated = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        return pyarrow.parquet.ParquetFile(file, memory_map=isinstance(file, str), read_dictionary=repeated)
    except Exception as error:
        raise FileError(f"not a readable Parquet file ({one_line(error)})") from None
