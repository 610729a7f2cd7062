"""Very many pairs, in a temporary file: memory does not grow with their number."""

from __future__ import annotations

import json
import threading
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import overload

from tintype.data.files import Origin
from tintype.data.pairs import Pair
from tintype.errors import DataError

SPOOLED = 2**20  # bytes; what is larger goes to the disk


class PairList(Sequence[Pair]):
    """Pairs in the order they were added, of which eight bytes each stay in memory. Reading is safe from any thread."""

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._rows = _Rows()
        self._starts = array("q")  # where the row of each pair begins
        self._last = ""
        self._sorted = True  # by key
        self.extend(pairs)

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> PairList:
        """The pairs as a list of this kind: itself, if it is one."""
        return pairs if isinstance(pairs, PairList) else cls(pairs)

    def append(self, pair: Pair) -> None:
        """Add a pair at the end. Raises DataError if the temporary folder is full."""
        self._sorted = self._sorted and self._last <= pair.key
        self._last = pair.key
        self._starts.append(self._rows.write(pair))

    def extend(self, pairs: Iterable[Pair]) -> None:
        for pair in pairs:
            self.append(pair)

    def sort(self) -> None:
        """Bring the pairs into the order of their keys, unless they were added in it."""
        if not self._sorted:
            keys = [pair.key for pair in self]
            self._starts = array("q", (self._starts[i] for i in sorted(range(len(keys)), key=keys.__getitem__)))
            self._sorted, self._last = True, max(keys)

    def chosen(self, indices: Iterable[int]) -> PairList:
        """Some of the pairs, in another list of the same file."""
        part = PairList()
        part._rows = self._rows
        part._starts = array("q", (self._starts[i] for i in indices))
        part._sorted = False
        return part

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> PairList: ...
    def __getitem__(self, index: int | slice) -> Pair | PairList:
        if isinstance(index, slice):
            return self.chosen(range(*index.indices(len(self))))
        return self._rows.read(self._starts[index])

    def __iter__(self) -> Iterator[Pair]:
        return map(self._rows.read, self._starts)


class _Rows:
    """The file: a line of JSON for each pair. What many places share is kept in memory, once."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(SPOOLED, prefix="tintype-")  # closed with this object
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._end = 0
        self._numbers: dict[Origin, int] = {}
        self._origins: list[Origin] = []

    def write(self, pair: Pair) -> int:
        """Add a row; where it begins."""
        origin, place = pair.place.saved()
        number = self._numbers.setdefault(origin, len(self._origins))
        if number == len(self._origins):
            self._origins.append(origin)
        row = json.dumps([pair.key, pair.captions, pair.weight, number, place]).encode() + b"\n"
        with self._lock:
            start = self._end
            try:
                self._file.seek(start)
                self._file.write(row)
            except OSError as error:
                raise DataError(f"the temporary folder cannot hold the list of pictures: {error.strerror}") from error
            self._end += len(row)
        return start

    def read(self, start: int) -> Pair:
        with self._lock:
            self._file.seek(start)
            line = self._file.readline()
        key, captions, weight, number, place = json.loads(line)
        return Pair(key, self._origins[number].place(place), tuple(captions), weight)
