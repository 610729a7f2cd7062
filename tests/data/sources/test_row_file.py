"""Rows in temporary files: kept and sorted as arrays are, in memory that does not grow with them."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tintype.data.check.summary import summarize
from tintype.data.images.facts import FACTS
from tintype.data.sources import row_file
from tintype.data.sources.files import LocalFile
from tintype.data.sources.pairs import Pair
from tintype.data.sources.row_file import RowFile, chunks, sorted_by_key
from tintype.errors import DataError


def keyed(start: int, part: NDArray[Any]) -> NDArray[Any]:
    rows = np.empty(len(part), dtype=[("key", "<u8"), ("place", "<i8")])
    rows["key"], rows["place"] = part, np.arange(start, start + len(part))
    return rows


def facts_of(num: int, seed: int = 0) -> NDArray[Any]:
    """Facts of pictures, among them copies and look-alikes."""
    random = np.random.default_rng(seed)
    facts = np.zeros(num, dtype=FACTS)
    facts["sha256"] = random.integers(0, 256, (num, 32))
    facts["look"] = random.integers(1, 2**63, num, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    facts["thumb"] = random.integers(0, 256, (num, 48))
    facts["width"], facts["height"] = random.integers(20, 3000, (2, num))
    facts[num // 2 : num // 2 + 3] = facts[:3]
    facts["look"][num - 4 :] = facts["look"][4:8] ^ np.uint64(2**63 + 5)
    facts["thumb"][num - 4 :] = facts["thumb"][4:8]
    return facts


class Captioned(Sequence[Pair]):
    """Pairs that are made when they are asked for."""

    def __init__(self, num: int) -> None:
        self._num = num

    def __len__(self) -> int:
        return self._num

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self._num:
            raise IndexError
        return Pair(f"{index:07}", LocalFile("/", "a", b""), (f"caption {index % 1000} {'x' * (index % 70)}",))


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63, 2**64 - 1]), max_size=300),
    bits=st.sampled_from([1, 13, 64]),
)
def test_rows_are_sorted_by_their_keys_and_what_agrees_is_never_parted(values: list[int], bits: int) -> None:
    table = np.array(values, dtype=np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_file, "CHUNK", 16)
        patch.setattr(row_file, "_SAMPLED", 3)
        parts = list(sorted_by_key(table, keyed, bits))
    joined = np.concatenate(parts)
    assert joined["place"].tolist() == np.argsort(table, kind="stable").tolist()
    heads = [set((part["key"] >> np.uint64(64 - bits)).tolist()) for part in parts]
    assert sum(map(len, heads)) == len(set().union(*heads))


def test_a_file_of_rows_reads_like_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_file, "_BUFFER", 24)
    table, values = RowFile("<i8"), np.arange(100, 150)
    for value in values:
        table.append(value.astype("<i8").tobytes())
    assert len(table) == 50
    assert table[3:7].tolist() == [103, 104, 105, 106]
    assert table[48:80].tolist() == [148, 149]
    assert len(table[9:9]) == 0
    monkeypatch.setattr(row_file, "CHUNK", 7)
    assert np.concatenate([part for _, part in chunks(table)]).tolist() == values.tolist()
    assert [start for start, _ in chunks(table)] == list(range(0, 50, 7))


def test_a_full_temporary_folder_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def seek(self, *_: int) -> None: ...

        def write(self, _: bytes) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    monkeypatch.setattr(row_file, "SpooledTemporaryFile", lambda *_, **__: Full())
    table = RowFile("<i8")
    table.append(bytes(8))
    with pytest.raises(DataError, match="temporary folder"):
        table[0:1]


def test_a_survey_in_small_parts_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    facts, pairs = facts_of(400), Captioned(400)
    expected = summarize("data", pairs, facts, [], Counter())
    assert expected.duplicates == tuple((f"{i:07}", f"{i + 200:07}") for i in range(3))
    assert expected.near_duplicates == tuple((f"{i:07}", f"{i + 392:07}") for i in range(4, 8))
    monkeypatch.setattr(row_file, "CHUNK", 32)
    monkeypatch.setattr(row_file, "_SAMPLED", 3)
    parted = summarize("data", pairs, facts, [], Counter())
    assert [
        getattr(parted, name) for name in ("duplicates", "near_duplicates", "leaks", "histograms", "extremes", "notes")
    ] == [
        getattr(expected, name)
        for name in ("duplicates", "near_duplicates", "leaks", "histograms", "extremes", "notes")
    ]


@pytest.mark.slow
def test_the_memory_of_a_survey_does_not_grow_with_the_number_of_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_file, "CHUNK", 512)
    monkeypatch.setattr(row_file, "SPOOLED", 1)
    peaks = []
    for num in (3_000, 3_000, 12_000):  # the first imports what it needs
        table = RowFile(FACTS)
        table.append(facts_of(num).tobytes())
        tracemalloc.start()
        try:
            summarize("data", Captioned(num), table, [], Counter())
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[2] - peaks[1] < 9_000 * 16  # bytes; their facts alone are six times that
