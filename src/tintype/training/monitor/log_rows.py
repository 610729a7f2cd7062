"""Rows of log.jsonl, read back: in bounded memory, and whatever the file holds.

A log may be cut by a crash, damaged on a disk, or come from a stranger. A row keeps only entries of the kinds that
`Log` writes, so that nobody who reads them has to check their types.
"""

from __future__ import annotations

import datetime
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from tintype.errors import CheckpointError
from tintype.model.atomic_write import reason_of, replace_chunks
from tintype.model.read_file import MAX_LOG_BYTES, open_file
from tintype.training.monitor.memorization_gauge import OVERALL

MAX_ROW_BYTES = 2**20  # of a line; longer ones are skipped
MAX_ROWS = 2**20  # the newest; at one every ten seconds these are four months
_TAIL_BYTES = 256  # that a log must still have where they were, to be read on from there
MAX_LEVELS = 64  # noise levels in a row
MAX_COUNT = 2**63  # images seen
EVENTS = (
    "skipped",
    "spike",
    "went_back",
    "unreadable",
    "planned",
    "replanned",
    "threads",
    "ended",
    "early_stopping",
    "stopping",
)
_NUMBERS = ("loss", "lr", "grad_norm", "images_per_second")

Row = dict[str, Any]


def read_log(path: Path, inside: Path | None = None) -> list[Row]:
    """The rows of a log, of a long one the newest; without a readable file there are none.

    inside: the log may be a link, but not out of this folder.
    """
    return LogReader(path, inside).new_rows()[0]


class LogReader:
    """Reads a log that grows: what was read once is not read again.

    inside: the log may be a link, but not out of this folder.
    """

    def __init__(self, path: Path, inside: Path | None = None) -> None:
        self._path = path
        self._inside = inside
        self._file: tuple[int, int] | None = None  # device and number of the file that was read
        self._end = 0  # of what was read, in bytes
        self._tail = b""  # the last bytes before that end

    def new_rows(self) -> tuple[list[Row], bool]:
        """The rows since the last call, and whether they take the place of all earlier ones.

        They do where the file is another one, is shorter or was changed before that end, and at the first call. Without
        a readable file there are none.
        """
        try:
            with open_file(self._path, self._inside) as file:
                is_new = not self._continues(file)
                if is_new:
                    self._end = max(0, file.seek(0, os.SEEK_END) - MAX_LOG_BYTES)
                return self._read(file, is_rest=is_new and self._end > 0), is_new
        except OSError:
            self._file = None
            return [], True

    def _continues(self, file: BinaryIO) -> bool:
        """Whether a file is the one that was read before, with the same bytes at the end of what was read."""
        status = os.fstat(file.fileno())
        before, self._file = self._file, (status.st_dev, status.st_ino)
        if self._file != before or status.st_size < self._end:
            return False
        file.seek(self._end - len(self._tail))
        return file.read(len(self._tail)) == self._tail

    def _read(self, file: BinaryIO, *, is_rest: bool) -> list[Row]:
        """The rows from `_end` on, of many the newest; an unfinished line is left for later. is_rest: of a line."""
        file.seek(self._end)
        lines = _lines(file)
        if is_rest:
            next(lines, None)
        rows: deque[Row] = deque(maxlen=MAX_ROWS)
        unfinished = b""
        for line in lines:
            if (row := _row(line)) is not None:
                rows.append(row)
            elif not line.endswith(b"\n"):
                unfinished = line
        self._end = file.tell() - len(unfinished)
        start = max(0, self._end - _TAIL_BYTES)
        file.seek(start)
        self._tail = file.read(self._end - start)
        return list(rows)


def trim_log(path: Path, images_seen: int) -> None:
    """Drop the rows beyond `images_seen`, which a resumed run writes again, and what is no row; one line at a time.

    Raises CheckpointError if the disk refuses.
    """
    if not path.is_file():
        return
    try:
        with open_file(path) as file:
            kept = (
                line.removesuffix(b"\n") + b"\n"
                for line in _lines(file)
                if (row := _row(line)) is not None and row["images_seen"] <= images_seen
            )
            replace_chunks(path, kept)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {reason_of(error)}; free some space or move the file") from None


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, but for those of more than MAX_ROW_BYTES."""
    while line := file.readline(MAX_ROW_BYTES):
        if len(line) < MAX_ROW_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while (rest := file.readline(MAX_ROW_BYTES)) and not rest.endswith(b"\n"):
            pass


def _row(line: bytes) -> Row | None:
    """The row in a line, without entries of other kinds; None if there is none."""
    try:
        content = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    images_seen = content.get("images_seen")
    if type(images_seen) is not int or not 0 <= images_seen < MAX_COUNT:
        return None
    row: Row = {"images_seen": images_seen}
    for name, value in content.items():
        if name in _NUMBERS:
            row[name] = _number(value)
        elif name == "time":
            row[name] = _time(value)
        elif name == "noise_error" or name.startswith("noise_error_"):
            row[name] = _by_level(value, lambda error: error if error is None or error >= 0 else None)
        elif name == "memorization":
            row[name] = _gauges(value)
        elif name in EVENTS and isinstance(value, dict):
            row[name] = value
    if (row.get("images_per_second") or 0) < 0:
        row["images_per_second"] = None
    return row


def _number(value: object) -> float | int | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_COUNT:
        return None
    return value


def _time(value: object) -> str | None:
    """A time with its zone in ISO 8601; None for anything else."""
    try:
        return value if isinstance(value, str) and datetime.datetime.fromisoformat(value).tzinfo else None
    except ValueError:
        return None


def _by_level(value: object, checked: Callable[[float | None], float | None]) -> dict[str, float | None]:
    """Numbers by noise level, written as `Log` writes levels; without entries of other kinds."""
    entries = list(value.items())[:MAX_LEVELS] if isinstance(value, dict) else []
    return {level: checked(_number(number)) for level, number in entries if _is_level(level)}


def _gauges(value: object) -> dict[str, list[float | None]]:
    """The memorization gauge and its interval, by noise level and for all."""
    entries = list(value.items())[:MAX_LEVELS] if isinstance(value, dict) else []
    return {
        name: [_number(number) for number in gauge]
        for name, gauge in entries
        if (name == OVERALL or _is_level(name)) and isinstance(gauge, list) and len(gauge) == 3
    }


def _is_level(name: str) -> bool:
    try:
        level = float(name)
    except ValueError:
        return False
    return math.isfinite(level) and f"{level:g}" == name
