"""Lists of pairs in a temporary file, so that memory does not grow with their number."""

from __future__ import annotations

import heapq
import json
import struct
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import overload

from tintype.data.sources.files import SourceRoot
from tintype.data.sources.pairs import Pair
from tintype.data.sources.row_file import RowFile, chunks, no_room

SPOOLED = 2**18  # bytes; what is larger goes to the disk
_START = struct.Struct("<q")


class PairList(Sequence[Pair]):
    """A sequence of pairs on disk, in the order they were added. Safe to read from any thread."""

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._rows = _Rows()
        self._starts = RowFile("<i8")  # offset of the row of each pair, bytes
        self._last = ""
        self._runs = [0]  # first indices of the runs in which keys ascend
        self.extend(pairs)

    @classmethod
    def wrap(cls, pairs: Iterable[Pair]) -> PairList:
        """Copy the pairs into a PairList, unless they are one."""
        return pairs if isinstance(pairs, PairList) else cls(pairs)

    def append(self, pair: Pair) -> None:
        """Add a pair at the end. Raises DataError if the temporary folder is full."""
        if pair.key < self._last:
            self._runs.append(len(self))
        self._last = pair.key
        self._starts.append(_START.pack(self._rows.write(pair)))

    def extend(self, pairs: Iterable[Pair]) -> None:
        for pair in pairs:
            self.append(pair)

    def sort(self) -> None:
        """Sort the pairs by key: a merge sort of ascending runs, with one key of each run in memory."""
        if len(self._runs) > 1:
            ends = [*self._runs[1:], len(self)]
            merged = heapq.merge(*map(self._keyed, self._runs, ends))
            self._starts = _row_file(start for _, start in merged)
            self._runs, self._last = [0], self[-1].key

    def _keyed(self, first: int, end: int) -> Iterator[tuple[str, int]]:
        starts = self._starts
        for number in range(first, end):
            start = int(starts[number : number + 1][0])
            yield self._rows.read(start).key, start

    def select(self, indices: Iterable[int]) -> PairList:
        """The pairs at `indices`, as another list of the same file. Do not append to it."""
        selection = PairList()
        selection._rows = self._rows
        selection._starts = _row_file(int(self._starts[index : index + 1][0]) for index in indices)
        return selection

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> PairList: ...
    def __getitem__(self, index: int | slice) -> Pair | PairList:
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        number = range(len(self))[index]
        return self._rows.read(int(self._starts[number : number + 1][0]))

    def __iter__(self) -> Iterator[Pair]:
        return (self._rows.read(start) for _, chunk in chunks(self._starts) for start in chunk.tolist())


def _row_file(starts: Iterable[int]) -> RowFile:
    file = RowFile("<i8")
    for start in starts:
        file.append(_START.pack(start))
    return file


class _Rows:
    """The file: a line of JSON for each pair. The roots that sources share are in memory, each once."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(SPOOLED, prefix="tintype-")  # closed with this object
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._end = 0
        self._numbers: dict[SourceRoot, int] = {}
        self._roots: list[SourceRoot] = []

    def write(self, pair: Pair) -> int:
        """Add a row and return its offset in bytes."""
        root, values = pair.source.serialize()
        number = self._numbers.setdefault(root, len(self._roots))
        if number == len(self._roots):
            self._roots.append(root)
        row = json.dumps([pair.key, pair.captions, pair.weight, number, values]).encode() + b"\n"
        with self._lock:
            start = self._end
            try:
                self._file.seek(start)
                self._file.write(row)
            except OSError as error:
                raise no_room(error) from error
            self._end += len(row)
        return start

    def read(self, start: int) -> Pair:
        with self._lock:
            self._file.seek(start)
            line = self._file.readline()
        key, captions, weight, number, values = json.loads(line)
        return Pair(key, self._roots[number].deserialize(values), tuple(captions), weight)
