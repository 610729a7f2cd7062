import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tintype.config import DataConfig
from tintype.data.cache.open_or_build import build_cache
from tintype.data.images.decode import preprocess_for
from tintype.data.process_pool import can_fork, map_processes, one_at_a_time
from tintype.data.sources.find import find_pairs
from tintype.data.thread_pool import finished
from tintype.errors import DataError

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes are copied on Linux only")


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_results_come_in_order_whoever_is_quicker(processes: int) -> None:
    def slow_at_times(part: int) -> tuple[int, int]:
        time.sleep(0.02 * (part % 3 == 0))
        return part, os.getpid()

    results = list(map_processes(slow_at_times, range(7), processes))
    assert [part for part, _ in results] == list(range(7))
    pids = {pid for _, pid in results}
    assert len(pids) == processes
    assert os.getpid() not in pids


def test_results_larger_than_a_pipe_come_whole() -> None:
    assert [len(content) for content in map_processes(lambda part: bytes(part * 10**6), range(5), 2)] == [
        part * 10**6 for part in range(5)
    ]


def test_what_a_process_raises_is_raised() -> None:
    def raising(part: int) -> int:
        if part == 3:
            raise ValueError("the fourth")
        return part

    results = map_processes(raising, range(9), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the fourth"):
        next(results)
    assert multiprocessing.active_children() == []


def test_a_killed_process_is_an_error_and_no_waiting() -> None:
    def killed(part: int) -> int:
        if part == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return part

    with pytest.raises(DataError, match="was killed: is there too little memory"):
        list(map_processes(killed, range(6), 2))
    assert multiprocessing.active_children() == []


def test_closing_early_ends_the_processes() -> None:
    results = map_processes(lambda part: part, range(1000), 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_one_at_a_time_holds_between_processes() -> None:
    def inside(part: int) -> tuple[float, float]:
        with one_at_a_time:
            begin = time.monotonic()
            time.sleep(0.02)
            return begin, time.monotonic()

    spans = sorted(map_processes(inside, range(6), 3))
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


ORPHANS = """
import os, time
from tintype.data.process_pool import map_processes
def part(number):
    time.sleep(0.05)
    return os.getpid()
results = map_processes(part, range(10**6), 2)
print(next(results), next(results), flush=True)
time.sleep(60)
"""


def test_no_process_outlives_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = list(map(int, parent.stdout.readline().split()))
        parent.kill()
    deadline = time.monotonic() + 30
    while any(map(runs, pids)):
        assert time.monotonic() < deadline, "they go on"
        time.sleep(0.05)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Words:
    identity = "words"

    def text_embeddings(self, captions):
        import torch

        return [torch.tensor([[float(len(word))] for word in caption.split()]).half() for caption in captions]


def test_processes_and_threads_make_the_same_pack(
    draw, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(40):
        size = (64, 64) if i % 3 else (96, 48)
        draw(f"{i:02}.png", f"picture {i}", color=(i // 2, 7, 0, 200), size=size, mode="RGBA")
    (data / "07.png").write_bytes(b"rubbish")
    pairs, problems = find_pairs(data)
    assert all(pair.source.fork_safe for pair in pairs)
    preprocess = preprocess_for(32, DataConfig(crop="none", dedupe=True))
    packs = {}
    monkeypatch.setattr("tintype.data.cache.builder.MIN_BLOCK", 4)
    monkeypatch.setattr("tintype.data.cache.builder.MAX_BLOCK", 4)
    for worth in (1, 10**9):  # processes, then threads
        monkeypatch.setattr("tintype.data.cache.builder.num_threads", lambda: 3)
        monkeypatch.setattr("tintype.data.cache.builder.MIN_FORK", worth)
        pack = finished(build_cache(pairs, preprocess, tmp_path / str(worth), Words(), problems))
        packs[worth] = {path.name: path.read_bytes() for path in pack.folder.iterdir()}, pack.problems
        assert "an exact copy of another picture" in {problem.reason for problem in pack.problems}
    assert packs[1] == packs[10**9]
    assert len(packs[1][0]) > 4  # several shapes
