"""Growing arrays: .npy files written row by row, for an unknown number of rows."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUFFER = 2**20  # bytes, so that not every row is a call of the system


class GrowingArray:
    """A .npy file that grows row by row; it can be memory-mapped after the end of the `with` block.

    Ordinary writes, not a memory map, so that a full disk is an OSError and not the death of the process.

    Args:
        keep: rows to keep of an unfinished file; the rest is dropped.

    Raises ValueError if the file has fewer rows.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        self._file = open(path, "r+b" if keep else "wb", buffering=BUFFER)
        self._dtype: np.dtype[Any] | None = None
        self._row: tuple[int, ...] = ()
        self._num_rows = keep
        if keep:
            try:
                self._reopen(keep)
            except BaseException:
                self._file.close()
                raise

    def _reopen(self, keep: int) -> None:
        if np.lib.format.read_magic(self._file) != (1, 0):
            raise ValueError("not a .npy file of version 1.0")
        shape, _, self._dtype = np.lib.format.read_array_header_1_0(self._file)
        self._row = shape[1:]
        end = self._file.tell() + keep * self._dtype.itemsize * math.prod(self._row)
        if os.fstat(self._file.fileno()).st_size < end:
            raise ValueError("the file is shorter than it was")
        self._file.truncate(end)
        self._file.seek(end)

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows [n, ...]. Raises ValueError if their type or shape differs from the first rows'."""
        if self._dtype is None:
            self._dtype, self._row = rows.dtype, rows.shape[1:]
            self._write_header()
        # Comparing records field by field takes longer than writing one.
        if (rows.dtype is not self._dtype and rows.dtype != self._dtype) or rows.shape[1:] != self._row:
            raise ValueError(f"rows of {rows.dtype} {rows.shape[1:]} do not fit {self._dtype} {self._row}")
        self._num_rows += len(rows)
        self._file.write(np.ascontiguousarray(rows).data)

    def sync(self) -> None:
        """Flush all rows to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> GrowingArray:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error_type is None:
                if self._dtype is None:
                    self._dtype = np.dtype(np.uint8)
                self._write_header()
                self.sync()
        finally:
            self._file.close()

    def _write_header(self) -> None:
        # NumPy pads headers so that the first dimension can grow in place: both headers are of one length.
        assert self._dtype is not None
        self._file.seek(0)
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._num_rows, *self._row),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
