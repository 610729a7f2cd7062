"""Rows of metadata.csv, also with semicolons or tabs, captions with bare commas, and quotes that are never closed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tintype.data.sources.captions import CAPTION_FIELDS
from tintype.data.sources.files import FileError

MAX_ROW_LINES = 1_000  # lines that the quoted texts of one row may fill
OPEN_QUOTE = 'a quote (") is opened and not closed'
TOO_MANY_FIELDS = "it has more fields than the first line: put captions with commas into quotes"
_DELIMITERS = (",", ";", "\t")  # spreadsheets of many countries write semicolons


class Header(NamedTuple):
    """The first line: the names of the columns, and how the fields of a row are told apart."""

    columns: list[str]
    delimiter: str
    spaced: bool  # whether a space follows each delimiter, which belongs to no field

    @property
    def caption_is_last(self) -> bool:
        """Whether the column of captions is the last, so that fields too many are the rest of a caption."""
        return self.columns[-1] == next(name for name in CAPTION_FIELDS if name in self.columns)


def csv_rows(text: str) -> Iterator[tuple[int, dict[str, object] | str]]:
    """Yield the number of the first line of each row, and its values by column or the reason why it has none.

    Raises FileError if the first line lacks the columns.
    """
    lines = _Lines(list(io.StringIO(text, newline="")))
    header = _header(next(lines, ""))
    reader = csv.reader(lines, delimiter=header.delimiter, skipinitialspace=header.spaced, strict=True)
    while lines.position < len(lines.all):
        start = lines.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines.position, several = start + 1, lines.position > start + 1
            if several:  # each of the lines that the open quote would swallow is a row of its own
                yield start + 1, OPEN_QUOTE
                continue
            try:  # quotes inside a field are what they are
                fields = next(csv.reader([lines.all[start]], delimiter=header.delimiter))
            except csv.Error:
                yield start + 1, f"the line is not CSV: {error}"
                continue
            if lines.position == len(lines.all) and "end of data" in str(error):
                yield start + 1, OPEN_QUOTE
                continue
        if fields:
            yield start + 1, _values(header, fields)


class _Lines(Iterator[str]):
    """Lines from a position that can be set back; a row sees at most MAX_ROW_LINES of them."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.all = lines
        self.position = 0  # of the next line
        self._end = 1

    def begin(self) -> int:
        """Begin a row, and return its position."""
        self._end = min(len(self.all), self.position + MAX_ROW_LINES)
        return self.position

    def __next__(self) -> str:
        if self.position >= min(self._end, len(self.all)):
            raise StopIteration
        self.position += 1
        return self.all[self.position - 1]


def _header(line: str) -> Header:
    for delimiter in _DELIMITERS:
        fields = next(csv.reader([line], delimiter=delimiter), [])
        columns = [name.strip().lower() for name in fields]
        if "file_name" in columns and set(CAPTION_FIELDS) & set(columns):
            return Header(columns, delimiter, any(name.startswith(" ") for name in fields[1:]))
    first_line = ", ".join(next(csv.reader([line]), [])[:6]) or "nothing"
    raise FileError(f"it needs the columns file_name and text; its first line has: {first_line}")


def _values(header: Header, fields: list[str]) -> dict[str, object] | str:
    """The fields of a row by column; fields too many are the rest of a caption with commas, if that comes last."""
    columns = header.columns
    row, rest = fields[: len(columns)], fields[len(columns) :]
    if any(field.strip() for field in rest):
        if not header.caption_is_last:
            return TOO_MANY_FIELDS
        row[-1] = (header.delimiter + " " * header.spaced).join([row[-1], *rest])
    return dict(zip(columns, row, strict=False))
