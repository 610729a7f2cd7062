"""Saving while training goes on: what is written, what is kept, and what happens when it fails."""

from __future__ import annotations

import json
import os
import resource
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tintype.config import TrainConfig
from tintype.errors import CheckpointError, NotFiniteError
from tintype.model import checkpoint
from tintype.training.checkpoints.checkpointer import Checkpointer, worth_keeping


def parts(value: float, size: int = 5) -> dict[str, dict[str, Tensor]]:
    return {"model": {"a": torch.full((size,), value)}}


def save(saver: Checkpointer, run: Path, step: int, value: float = 1.0, error: float | None = None) -> Path:
    folder = checkpoint.step_folder(run, step)
    saver.save(folder, parts(value), {"state.json": json.dumps({"images_seen": 10 * step, "held_out_error": error})})
    return folder


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[Checkpointer]:
    saver = Checkpointer(tmp_path, TrainConfig(keep_last=2))
    yield saver
    saver.close()


def test_what_changes_after_the_call_is_not_what_is_written(
    tmp_path: Path, saver: Checkpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, original = threading.Event(), checkpoint.save_parts

    def slow(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], texts: Mapping[str, str]) -> None:
        assert going.wait(10)
        original(folder, tensors, texts)

    monkeypatch.setattr(checkpoint, "save_parts", slow)
    live = parts(1.0)
    folder = checkpoint.step_folder(tmp_path, 1)
    saver.save(folder, live, {})
    saver.check()  # nothing to say yet, and no waiting
    live["model"]["a"].fill_(7.0)
    assert not folder.exists()
    going.set()
    saver.wait()
    assert torch.equal(checkpoint.load_parts(folder, ["model"])["model"]["a"], torch.ones(5))
    assert (tmp_path / "latest").read_text().strip() == "checkpoints/step-00000001"


def test_one_thread_saves_from_the_first_moment_to_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that must be started when memory is short may never start, and whoever starts it waits for ever."""
    before, savers, original = set(threading.enumerate()), [], checkpoint.save_parts

    def noted(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], texts: Mapping[str, str]) -> None:
        savers.append(threading.current_thread())
        original(folder, tensors, texts)

    monkeypatch.setattr(checkpoint, "save_parts", noted)
    saver = Checkpointer(tmp_path, TrainConfig(keep_last=2))
    (thread,) = set(threading.enumerate()) - before
    for step in (1, 2, 3):
        save(saver, tmp_path, step)
    saver.wait()
    assert savers == [thread] * 3
    saver.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_a_save_starts_no_threads_of_openmp(tmp_path: Path) -> None:
    """They would stay, and slow the training down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.isfinite(torch.ones(2**20)).all()  # the main thread has its own now
        saver = Checkpointer(tmp_path, TrainConfig())
        before = len(os.listdir("/proc/self/task"))
        saver.save(checkpoint.step_folder(tmp_path, 1), {"model": {"a": torch.ones(2**20, 2).t()}}, {})
        saver.wait()
        assert len(os.listdir("/proc/self/task")) == before
        saver.close()
    finally:
        torch.set_num_threads(threads)


def test_two_saves_never_write_at_once(tmp_path: Path, saver: Checkpointer, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, most, original = [0], [0], checkpoint.save_parts

    def counted(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], texts: Mapping[str, str]) -> None:
        writing[0] += 1
        most[0] = max(most[0], writing[0])
        original(folder, tensors, texts)
        writing[0] -= 1

    monkeypatch.setattr(checkpoint, "save_parts", counted)
    for step in range(1, 6):
        save(saver, tmp_path, step)
    saver.wait()
    assert most == [1]
    assert checkpoint.latest(tmp_path) == checkpoint.step_folder(tmp_path, 5)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc")])
def test_a_lack_of_memory_is_an_error_of_that_save_alone(
    tmp_path: Path, saver: Checkpointer, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with monkeypatch.context() as patched:

        def fails(*_: object) -> None:
            raise error

        patched.setattr(checkpoint, "save_parts", fails)
        save(saver, tmp_path, 1)
        with pytest.raises(CheckpointError, match="memory ran out"):
            saver.wait()
    assert checkpoint.latest(tmp_path) is None
    folder = save(saver, tmp_path, 2)
    saver.wait()
    assert checkpoint.latest(tmp_path) == folder


def test_the_newest_the_best_and_one_every_so_often_stay(tmp_path: Path) -> None:
    saver = Checkpointer(tmp_path, TrainConfig(keep_last=2, keep_every=30))
    for step, error in enumerate([0.9, 0.2, None, 0.5, 0.4, 0.6, 0.7, 0.8], start=1):
        save(saver, tmp_path, step, error=error)
        saver.wait()
    saver.close()
    # 30, 60 images: steps 3 and 6. Best: step 2. Newest: 7 and 8.
    assert [folder.name[-1] for folder in checkpoint.checkpoints(tmp_path)] == ["8", "7", "6", "3", "2"]
    places = checkpoint.checkpoints(tmp_path)
    assert worth_keeping(places, TrainConfig(keep_best=False)) == set()
    (places[0] / "state.json").write_text("[]")
    assert places[0] not in worth_keeping(places, TrainConfig(keep_every=1))


def test_nothing_is_deleted_before_the_new_one_is_seen_to_be_whole(
    tmp_path: Path, saver: Checkpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        save(saver, tmp_path, step)
    saver.wait()

    def damaged(folder: Path) -> None:
        raise CheckpointError(f"{folder} is damaged")

    monkeypatch.setattr(checkpoint, "verify", damaged)
    save(saver, tmp_path, 3)
    with pytest.raises(CheckpointError, match="is damaged"):
        saver.wait()
    assert len(checkpoint.checkpoints(tmp_path)) == 3
    assert (tmp_path / "latest").read_text().strip() == "checkpoints/step-00000002"


def test_numbers_that_are_not_finite_are_told_and_nothing_is_written(tmp_path: Path, saver: Checkpointer) -> None:
    save(saver, tmp_path, 1)
    save(saver, tmp_path, 2, value=float("nan"))
    with pytest.raises(NotFiniteError):
        saver.wait()
    saver.wait()  # said once
    assert [folder.name for folder in checkpoint.checkpoints(tmp_path)] == ["step-00000001"]


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes: writing more fails as on a full disk, without root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(os.name == "nt", reason="needs limits of Unix")
def test_a_disk_that_really_refuses_is_an_error_and_the_old_one_stays(tmp_path: Path, saver: Checkpointer) -> None:
    good = save(saver, tmp_path, 1)
    saver.wait()
    with full_disk(2000):
        saver.save(checkpoint.step_folder(tmp_path, 2), parts(2.0, size=10_000), {"state.json": "{}"})
        with pytest.raises(CheckpointError, match="File too large"):
            saver.wait()
        with pytest.raises(CheckpointError, match="File too large"):
            checkpoint.write_tensors(tmp_path / "model.safetensors", parts(2.0, size=10_000)["model"])
    assert checkpoint.latest(tmp_path) == good
    assert sorted(path.name for path in tmp_path.rglob("*") if ".tmp-" in path.name) == []
    saver.save(checkpoint.step_folder(tmp_path, 2), parts(2.0, size=10_000), {"state.json": "{}"})
    saver.wait()
    assert checkpoint.latest(tmp_path) == checkpoint.step_folder(tmp_path, 2)
