"""Checkpoints are whole or absent, are checked when read, and hold only finite numbers."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tintype.errors import CheckpointError, TrainingError
from tintype.model import checkpoint


def parts(value: float = 1.0) -> dict[str, dict[str, Tensor]]:
    return {
        "model": {"a": torch.full((3, 4), value), "b": torch.arange(5)},
        "optimizer": {"step": torch.tensor(7.0), "half": torch.full((2,), value).half()},
    }


def save(run: Path, step: int, value: float = 1.0) -> Path:
    folder = checkpoint.step_folder(run, step)
    checkpoint.save_parts(folder, parts(value), {"config.json": "{}\n", "note.txt": "grün\n"})
    return folder


def value_of(folder: Path) -> float:
    return float(checkpoint.load_parts(folder, ["model"])["model"]["a"][0, 0])


def test_what_is_saved_comes_back_exactly(tmp_path: Path) -> None:
    folder = save(tmp_path, 3, 0.1)
    loaded = checkpoint.load_parts(folder, ["model", "optimizer"])
    for name, tensors in parts(0.1).items():
        assert set(loaded[name]) == set(tensors)
        for key, tensor in tensors.items():
            assert torch.equal(loaded[name][key], tensor)
            assert loaded[name][key].dtype == tensor.dtype
    assert checkpoint.load_texts(folder) == {"config.json": "{}\n", "note.txt": "grün\n"}
    assert folder.name == "step-00000003"


def test_tensors_that_share_memory_or_are_not_contiguous_can_be_saved(tmp_path: Path) -> None:
    tensor = torch.arange(6.0).reshape(2, 3)
    checkpoint.save_parts(tmp_path / "c", {"model": {"turned": tensor.T, "row": tensor[0], "whole": tensor}}, {})
    loaded = checkpoint.load_parts(tmp_path / "c", ["model"])["model"]
    assert torch.equal(loaded["turned"], tensor.T)
    assert torch.equal(loaded["row"], tensor[0])


def test_files_can_be_read_by_others_as_far_as_the_user_allows(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        folder = save(tmp_path, 1)
    finally:
        os.umask(old)
    assert stat.S_IMODE((folder / "model.safetensors").stat().st_mode) == 0o644


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_before_anything_is_written(tmp_path: Path, bad: float) -> None:
    save(tmp_path, 1)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TrainingError, match="not finite"):
        save(tmp_path, 2, bad)
    with pytest.raises(TrainingError, match="not finite"):
        checkpoint.write_tensors(tmp_path / "model.safetensors", {"a": torch.tensor([bad])})
    assert sorted(tmp_path.rglob("*")) == before


class Killed(BaseException):
    """Stands for the end of the process: nothing of the program runs any more."""


def interrupted(
    monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any], at: int | None, error: BaseException
) -> int:
    """Run `action`, raising `error` at its call number `at` that changes the disk. Returns the calls made."""
    num_calls = 0

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal num_calls
            num_calls += 1
            if at is not None and num_calls > at:
                raise error
            return real(*args, **options)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(os.fsync))
        patched.setattr(os, "rename", failing(os.rename))
        patched.setattr(os, "replace", failing(os.replace))
        patched.setattr(Path, "mkdir", failing(Path.mkdir))
        if isinstance(error, Killed):
            patched.setattr(shutil, "rmtree", failing(shutil.rmtree))
        try:
            action()
        except Killed:
            pass
    return num_calls


def test_a_kill_anywhere_in_a_save_leaves_a_whole_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    num_calls = interrupted(monkeypatch, lambda: save(tmp_path / "whole", 2), None, Killed())
    assert num_calls > 6
    for at in range(num_calls):
        run = tmp_path / str(at)
        save(run, 1, 1.0)
        interrupted(monkeypatch, lambda run=run: save(run, 2, 2.0), at, Killed())
        newest = checkpoint.latest(run)
        assert newest is not None
        assert value_of(newest) == int(newest.name[-1])
        assert all(checkpoint.is_whole(folder) for folder in checkpoint.checkpoints(run))
        checkpoint.clean(run)
        assert not [path for path in (run / "checkpoints").iterdir() if path.name.startswith(".")]


def test_a_full_disk_is_an_error_that_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    save(tmp_path, 1)
    num_calls = interrupted(monkeypatch, lambda: save(tmp_path, 2), None, full)
    shutil.rmtree(checkpoint.step_folder(tmp_path, 2))
    before = sorted((tmp_path / "checkpoints").rglob("*"))
    for at in range(num_calls - 1):  # after the last one the checkpoint is in place
        with pytest.raises(CheckpointError, match="No space left"):
            interrupted(monkeypatch, lambda: save(tmp_path, 2), at, full)
        assert sorted((tmp_path / "checkpoints").rglob("*")) == before


def test_a_disk_without_room_is_noticed_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CheckpointError, match="not enough free space"):
        save(tmp_path, 1)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, os.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_damage_is_found_and_the_checkpoint_before_is_taken(
    tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    good, bad = save(tmp_path, 9, 1.0), save(tmp_path, 10, 2.0)
    assert checkpoint.latest(tmp_path) == bad
    damage(bad / name)
    with pytest.raises(CheckpointError, match=name):
        checkpoint.verify(bad)
    assert checkpoint.latest(tmp_path) == good


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": 1}', '{"format": 1, "files": 3}', '{"format": 1, "files": {"a": 3}}', "\x00"],
)
def test_a_damaged_manifest_is_an_error(tmp_path: Path, content: str) -> None:
    folder = save(tmp_path, 1)
    (folder / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError):
        checkpoint.verify(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        checkpoint.load_parts(folder, ["model"])


def test_a_manifest_of_another_format_or_with_a_path_in_it_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoint.verify(folder)
    files = {"../x": manifest["files"]["config.json"]}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": files}))
    with pytest.raises(CheckpointError, match="outside"):
        checkpoint.load_texts(folder)


def test_a_part_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        checkpoint.load_parts(save(tmp_path, 1), ["weights"])


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000, 5):
        save(tmp_path, step)
    (tmp_path / "checkpoints" / "step-notes").mkdir()
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == [
        "step-100000000",
        "step-99999999",
        "step-00000005",
    ]


def test_a_run_without_checkpoints_has_no_latest(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.checkpoints(tmp_path) == []


def test_saving_again_replaces(tmp_path: Path) -> None:
    save(tmp_path, 1, 1.0)
    folder = save(tmp_path, 1, 2.0)
    assert value_of(folder) == 2.0
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_pruning_keeps_the_newest_and_never_counts_a_damaged_one(tmp_path: Path) -> None:
    places = [save(tmp_path, step) for step in range(1, 6)]
    truncate(places[4] / "model.safetensors")
    checkpoint.prune(tmp_path, 2)
    assert checkpoint.checkpoints(tmp_path) == [places[4], places[3], places[2]]


def test_what_cannot_be_deleted_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [save(tmp_path, step) for step in (1, 2)]

    def refuse(*args: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    checkpoint.prune(tmp_path, 1)
    assert checkpoint.checkpoints(tmp_path) == places[::-1]


def test_latest_is_noted_for_people(tmp_path: Path) -> None:
    checkpoint.write_latest(tmp_path, save(tmp_path, 4))
    assert (tmp_path / "latest").read_text() == "checkpoints/step-00000004\n"


def test_a_single_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.write_tensors(path, {"a": torch.ones(2)})
    full = OSError(errno.ENOSPC, "No space left on device")
    for at in range(2):
        with pytest.raises(CheckpointError, match="No space left"):
            interrupted(monkeypatch, lambda: checkpoint.write_tensors(path, {"a": torch.zeros(2)}), at, full)
    assert torch.equal(checkpoint.read_tensors(path)["a"], torch.ones(2))
    assert [child.name for child in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04K\x01.", b"\xff" * 64])
def test_what_is_not_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        checkpoint.read_tensors(path)
    with pytest.raises(CheckpointError, match="cannot read"):
        checkpoint.read_tensors(tmp_path / "missing.safetensors")
