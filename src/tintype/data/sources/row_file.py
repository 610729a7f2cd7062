"""Rows of numbers in temporary files, kept and sorted in constant memory."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from tempfile import SpooledTemporaryFile, TemporaryFile
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tintype.errors import DataError

SPOOLED = 2**18  # bytes; what is larger goes to the disk
_BUFFER = 2**16  # bytes that are written together
CHUNK = 2**12  # rows that are in memory at once
_MAX_BUCKETS = 64  # files that are open at once while rows are sorted
_SAMPLED = 64  # one row in so many is sampled to choose the borders of the buckets


class Rows(Protocol):
    """Rows that can be read in slices: an array, a memory map or a `RowFile`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> NDArray[Any]: ...


class RowFile:
    """Rows of one dtype in a temporary file. Safe to use from any thread."""

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self._file = SpooledTemporaryFile(SPOOLED, prefix="tintype-")  # closed with this object
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._num_rows = 0
        self._unwritten = bytearray()  # rows at the end, as bytes

    def append(self, row: bytes) -> None:
        """Add one row, or several end to end, as bytes. Raises DataError if the temporary folder is full."""
        with self._lock:
            self._unwritten += row
            self._num_rows += len(row) // self.dtype.itemsize
            if len(self._unwritten) >= _BUFFER:
                self._flush()

    def __len__(self) -> int:
        return self._num_rows

    def __getitem__(self, index: slice) -> NDArray[Any]:
        """Read the rows `start` to `stop`; a step is ignored."""
        start, stop, _ = index.indices(self._num_rows)
        size = self.dtype.itemsize
        with self._lock:
            self._flush()
            self._file.seek(start * size)
            content = self._file.read(max(0, stop - start) * size)
        return np.frombuffer(content, dtype=self.dtype)

    def _flush(self) -> None:
        if self._unwritten:
            try:
                self._file.seek(0, 2)
                self._file.write(self._unwritten)
            except OSError as error:
                raise no_room(error) from error
            self._unwritten.clear()


def no_room(error: OSError) -> DataError:
    """The error for a temporary file that cannot be written."""
    return DataError(f"the temporary folder cannot hold the list of pictures: {error.strerror}")


def chunks(rows: Rows) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield all rows in chunks, each with the index of its first row."""
    for start in range(0, len(rows), CHUNK):
        yield start, rows[start : start + CHUNK]


def sorted_by_key(
    rows: Rows, keyed: Callable[[int, NDArray[Any]], NDArray[Any]], bits: int = 64
) -> Iterator[NDArray[Any]]:
    """Sort the records that `keyed` makes of all rows by their field `key`, and yield them in chunks.

    Args:
        keyed: maps the index of a chunk's first row, and the chunk, to an array with a field `key`, uint64.
            It is called more than once for each chunk.
        bits: records whose keys agree in so many of the highest bits are never in different chunks.

    A stable bucket sort through temporary files, with borders from a sample of the keys. Raises DataError if the
    temporary folder is full.
    """
    if len(rows) <= CHUNK:
        yield _sorted(keyed(0, rows[0 : len(rows)]))
        return
    shift = np.uint64(64 - bits)
    # Copied, since a view would keep the whole chunk in memory.
    sample = np.sort(np.concatenate([keyed(*chunk)["key"][::_SAMPLED].copy() for chunk in chunks(rows)]) >> shift)
    num = min(_MAX_BUCKETS, -(-len(rows) // CHUNK))
    borders = np.unique(sample[[len(sample) * i // num for i in range(1, num)]]) if len(sample) else sample
    with ExitStack() as stack:
        files = [stack.enter_context(TemporaryFile(prefix="tintype-", buffering=0)) for _ in range(len(borders) + 1)]
        for chunk in chunks(rows):
            records = keyed(*chunk)
            numbers = np.searchsorted(borders, records["key"] >> shift, side="right")
            try:
                for number in np.unique(numbers).tolist():
                    files[number].write(records[numbers == number].tobytes())
            except OSError as error:
                raise no_room(error) from error
        for file in files:
            file.seek(0)
            yield _sorted(np.frombuffer(file.read(), dtype=records.dtype))


def _sorted(rows: NDArray[Any]) -> NDArray[Any]:
    return rows[np.argsort(rows["key"], kind="stable")]
