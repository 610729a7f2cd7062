"""Rows of numbers in temporary files: kept, and sorted, in memory that does not grow with how many there are."""

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
_BUFFER = 2**16  # bytes that wait to be written together
PART = 2**12  # rows that are in memory at once
_MOST_BUCKETS = 64  # files that are open at once while rows are sorted
_PROBED = 64  # rows of which one is looked at to find out where to part them


class Rows(Protocol):
    """What has rows that can be read some at a time: an array, a memory map, a `RowFile`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> NDArray[Any]: ...


class RowFile:
    """Rows of one dtype, none of which stays in memory. Safe to use from any thread."""

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self._file = SpooledTemporaryFile(SPOOLED, prefix="tintype-")  # closed with this object
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._num_rows = 0
        self._waiting = bytearray()  # rows at the end that are not in the file yet

    def append(self, row: bytes) -> None:
        """Add one row, or several end to end, as bytes. Raises DataError if the temporary folder is full."""
        with self._lock:
            self._waiting += row
            self._num_rows += len(row) // self.dtype.itemsize
            if len(self._waiting) >= _BUFFER:
                self._flush()

    def __len__(self) -> int:
        return self._num_rows

    def __getitem__(self, index: slice) -> NDArray[Any]:
        """Rows `start` to `stop`, one after another."""
        start, stop, _ = index.indices(self._num_rows)
        size = self.dtype.itemsize
        with self._lock:
            self._flush()
            self._file.seek(start * size)
            content = self._file.read(max(0, stop - start) * size)
        return np.frombuffer(content, dtype=self.dtype)

    def _flush(self) -> None:
        if self._waiting:
            try:
                self._file.seek(0, 2)
                self._file.write(self._waiting)
            except OSError as error:
                raise full(error) from error
            self._waiting.clear()


def full(error: OSError) -> DataError:
    """What to say when a temporary file cannot be written."""
    return DataError(f"the temporary folder cannot hold the list of pictures: {error.strerror}")


def chunks(rows: Rows) -> Iterator[tuple[int, NDArray[Any]]]:
    """All rows, some at a time, each time with the number of the first."""
    for start in range(0, len(rows), PART):
        yield start, rows[start : start + PART]


def sorted_by_key(
    rows: Rows, keyed: Callable[[int, NDArray[Any]], NDArray[Any]], bits: int = 64
) -> Iterator[NDArray[Any]]:
    """What `keyed` makes of all rows, in the order of its field `key`, some at a time.

    keyed: from the number of the first of some rows, and these, to an array with a field `key`, uint64. It is called
        more than once for the same rows.
    bits: rows whose keys agree in so many bits, counted from the highest, are never parted.

    Equal keys stay in the order of their rows. They are sorted through temporary files, parted at keys that a sample of
    them suggests. Raises DataError if the temporary folder is full.
    """
    if len(rows) <= PART:
        yield _sorted(keyed(0, rows[0 : len(rows)]))
        return
    shift = np.uint64(64 - bits)
    # Copied, since a view would keep the whole part in memory.
    probed = np.sort(np.concatenate([keyed(*part)["key"][::_PROBED].copy() for part in chunks(rows)]) >> shift)
    num = min(_MOST_BUCKETS, -(-len(rows) // PART))
    borders = np.unique(probed[[len(probed) * i // num for i in range(1, num)]]) if len(probed) else probed
    with ExitStack() as stack:
        files = [stack.enter_context(TemporaryFile(prefix="tintype-", buffering=0)) for _ in range(len(borders) + 1)]
        for part in chunks(rows):
            found = keyed(*part)
            numbers = np.searchsorted(borders, found["key"] >> shift, side="right")
            try:
                for number in np.unique(numbers).tolist():
                    files[number].write(found[numbers == number].tobytes())
            except OSError as error:
                raise full(error) from error
        for file in files:
            file.seek(0)
            yield _sorted(np.frombuffer(file.read(), dtype=found.dtype))


def _sorted(rows: NDArray[Any]) -> NDArray[Any]:
    return rows[np.argsort(rows["key"], kind="stable")]
