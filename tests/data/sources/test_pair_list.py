import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tintype.data.sources import pair_list
from tintype.data.sources.files import LocalFile, Verified
from tintype.data.sources.find import find_pairs
from tintype.data.sources.pair_list import PairList
from tintype.data.sources.pairs import Pair
from tintype.data.sources.remote import Archive
from tintype.data.sources.webdataset import Member
from tintype.errors import DataError


def some(number: int) -> list[Pair]:
    archive = Archive("a.tar", b"state", 10**9)
    files = (LocalFile("/data", "caf\u00e9\udcff.png", b"\x00" * 24), Member(archive, 512, 99))
    return [
        Pair(f"{i:05}", Verified(files[i % 2], "ab" * 32) if i % 3 else files[i % 2], ("a", f"caption {i}"), 0.5 + i)
        for i in range(number)
    ]


@pytest.mark.parametrize("spooled", [1, 2**20])
def test_pairs_come_back_as_they_were(monkeypatch: pytest.MonkeyPatch, spooled: int) -> None:
    monkeypatch.setattr(pair_list, "SPOOLED", spooled)
    pairs = some(300)
    kept = PairList(pairs)
    assert list(kept) == pairs
    assert [kept[i] for i in (299, 0, -1)] == [pairs[299], pairs[0], pairs[-1]]
    assert list(kept[5:100:7]) == pairs[5:100:7]
    assert list(kept.select([7, 2])) == [pairs[7], pairs[2]]
    kept.append(pairs[3])
    assert len(kept) == 301
    with pytest.raises(IndexError):
        kept[301]


def test_pairs_are_sorted_by_key() -> None:
    pairs = some(50)
    kept = PairList(pairs[::-1])
    kept.sort()
    assert list(kept) == pairs
    kept.append(pairs[0])
    kept.sort()
    assert list(kept) == [pairs[0], *pairs]


def test_many_threads_read_at_once() -> None:
    pairs = some(500)
    kept = PairList(pairs)
    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(kept.__getitem__, [i * 7 % 500 for i in range(2000)])) == [
            pairs[i * 7 % 500] for i in range(2000)
        ]


def test_a_full_temporary_folder_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def seek(self, _: int) -> None: ...

        def write(self, _: bytes) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    monkeypatch.setattr(pair_list, "SpooledTemporaryFile", lambda *_, **__: Full())
    with pytest.raises(DataError, match="temporary folder"):
        PairList(some(1))


def test_a_folder_is_listed_in_the_order_of_its_keys(data: Path, draw: Callable[..., Path]) -> None:
    for key in ("b.png", "a/z.png", "a.png", "a/b/c.png", "c.d/e.png", "a-b/c.png", "c.png"):
        draw(key)
    keys = [pair.key for pair in find_pairs(data)[0]]
    assert keys == sorted(keys)
    assert len(keys) == 7


LISTING = """
import sys, tracemalloc
from tintype.data.sources import pair_list, row_file
from tintype.data.sources.find import find_pairs
pair_list.SPOOLED = row_file.SPOOLED = 1
tracemalloc.start()
print(len(find_pairs(sys.argv[1])[0]), tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    peaks = []
    for num in (300, 3300):
        for number in range(num):
            path = tmp_path / str(num) / f"{number // 100:03}" / f"{number:06}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            path.with_suffix(".txt").write_text(f"picture number {number}")
        command = [sys.executable, "-c", LISTING, str(tmp_path / str(num))]
        num_pairs, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(num_pairs) == num
        peaks.append(int(peak))
    assert peaks[1] - peaks[0] < 3000 * 16  # bytes: what waits to be written, and nothing for each picture
