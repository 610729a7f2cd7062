"""A disk that is too small is noticed before the first step; one that fills up on the way costs as little as it can."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from rich.console import Console
from tests.training.conftest import TINY, DrawnSamples, after_step

from tintype.config import PRESETS
from tintype.errors import CheckpointError, TrainingError
from tintype.model import checkpoint
from tintype.model.denoiser import Denoiser
from tintype.pipeline.pipeline import Pipeline
from tintype.training.core.components import Components
from tintype.training.core.trainer import Trainer
from tintype.training.run import Terminated, TrainRequest, train
from tintype.training.setup import plan
from tintype.training.setup.disk import DiskNeeds, most_checkpoints, require_disk

MIB = 2**20
NEEDS = DiskNeeds(checkpoint_bytes=100 * MIB, model_bytes=20 * MIB, most=5)


def run(request: TrainRequest) -> str:
    """Train and return what was printed."""
    out = io.StringIO()
    train(request, Console(file=out, width=200))
    return out.getvalue()


@pytest.fixture
def request_(pictures: Path, tmp_path: Path, tiny_nano: None) -> TrainRequest:
    request = TrainRequest(data=pictures, out=tmp_path / "run", images=40, device="cpu", cache=tmp_path / "cache")
    run(replace(request, images=4, out=tmp_path / "first"))  # makes the cache, which looks at the disk too
    return request


@pytest.fixture
def set_free(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the disk seem to have so many bytes free at the first looks, then `later`."""
    usage = shutil.disk_usage("/")

    def set_free(*looks: int, later: int | None = None) -> None:
        remaining = iter(looks)
        last = looks[-1] if later is None else later
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=next(remaining, last)))

    return set_free


def fill(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let every write of a file of this name fail for want of space."""
    original = Path.open

    def refuse(self: Path, mode: str = "r", *args: Any, **options: Any) -> IO[Any]:
        if "w" in mode and self.name.lstrip(".").startswith(name):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, mode, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)


def test_the_size_of_a_checkpoint_is_known_before_the_first_step(
    make_trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    trainer = make_trainer()
    planned = trainer.checkpoint_bytes
    next(trainer.steps(4))
    assert planned == sum(tensor.nbytes for part in trainer.tensors().values() for tensor in part.values())
    checkpoint.save_parts(tmp_path / "saved", trainer.tensors(), {})
    written = sum(path.stat().st_size for path in (tmp_path / "saved").iterdir())
    assert planned < written < planned + 100_000  # the names of the tensors come on top
    checkpoint.write_tensors(tmp_path / "model.safetensors", trainer.weights())
    assert trainer.model_bytes < (tmp_path / "model.safetensors").stat().st_size < trainer.model_bytes + 25_000


def test_the_state_of_an_optimizer_passed_in_is_counted_once_it_is_there() -> None:
    components = Components(optimizer=lambda model, config: torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9))
    trainer = Trainer(Denoiser(TINY), DrawnSamples(), TINY, torch.device("cpu"), components=components)
    assert trainer.checkpoint_bytes // trainer.model_bytes == 3
    next(trainer.steps(4))
    assert trainer.checkpoint_bytes // trainer.model_bytes == 4


def test_a_run_without_room_for_one_checkpoint_and_the_model_is_refused(
    tmp_path: Path, set_free: Callable[..., None]
) -> None:
    set_free(129 * MIB)  # a save asks for a tenth more than it writes
    with pytest.raises(TrainingError, match=r"has 129 MiB free, and this run needs 130 MiB") as refused:
        require_disk(tmp_path / "not" / "yet", TINY.train, NEEDS)
    assert str(tmp_path) in str(refused.value)
    require_disk(tmp_path, TINY.train, replace(NEEDS, is_saved=True))  # the model alone is to be written
    set_free(140 * MIB)
    with pytest.raises(TrainingError, match="and the cache of the data"):
        require_disk(tmp_path, TINY.train, replace(NEEDS, data_bytes=11 * MIB))
    set_free(19 * MIB)
    with pytest.raises(TrainingError, match="needs 20 MiB for the finished model"):
        require_disk(tmp_path, TINY.train, replace(NEEDS, is_saved=True))


@pytest.mark.parametrize(
    ("free", "present", "says"),
    [
        (530, 0, ""),
        (529, 0, "room for 4 of the 5 checkpoints of 100 MiB that this run may have at once"),
        (529, 1, ""),
        (330, 0, "give --keep 1,"),
        (230, 0, "saved: make room"),  # no --keep is small enough
        (130, 5, ""),  # each new one takes the place of an old one
    ],
)
def test_room_for_some_of_the_checkpoints_is_a_warning(
    tmp_path: Path, set_free: Callable[..., None], free: int, present: int, says: str
) -> None:
    set_free(free * MIB)
    warning = require_disk(tmp_path, TINY.train, replace(NEEDS, present=present))
    assert says in warning if says else warning == ""


def test_only_as_many_checkpoints_as_there_will_be_are_counted() -> None:
    often = replace(TINY.train, images=1000, save_minutes=5.0, keep_last=3, keep_best=True)
    assert most_checkpoints(often, None) == 5  # three newest, the best, and one that is being written
    assert most_checkpoints(often, 60.0) == 1
    assert most_checkpoints(often, 3600.0) == 5
    assert most_checkpoints(replace(often, keep_every=400), 60.0) == 3


def test_a_disk_that_does_not_say_how_much_is_free_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    assert require_disk(tmp_path, TINY.train, NEEDS) == ""


def test_a_refused_run_takes_no_step_and_leaves_nothing_behind(
    request_: TrainRequest, set_free: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise AssertionError("a step was taken")

    after_step(monkeypatch, 4, fail)
    set_free(100_000)
    with pytest.raises(TrainingError, match=r"free, and this run needs"):
        run(request_)
    assert not request_.out.exists()


@pytest.mark.slow
def test_a_dry_run_says_so_too(
    request_: TrainRequest, set_free: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "MEASURE_SECONDS", 0.1)
    set_free(100_000)
    with pytest.raises(TrainingError, match=r"free, and this run needs"):
        run(replace(request_, dry_run=True))
    set_free(10 * MIB)
    assert "warning: the disk of" not in run(replace(request_, dry_run=True))
    many = replace(request_, images=4000, keep_every=4, dry_run=True)
    assert "of the 1001 checkpoints" in run(many)


@pytest.mark.slow
def test_a_run_that_may_keep_more_than_fits_is_warned_and_trained(
    request_: TrainRequest, set_free: Callable[..., None], make_trainer: Callable[..., Trainer]
) -> None:
    run(replace(request_, out=request_.out.with_name("other")))
    (saved,) = checkpoint.checkpoints(request_.out.with_name("other"))
    size = sum(path.stat().st_size for path in saved.iterdir())
    set_free(2 * size)
    output = run(request_)
    assert "room for 1 of the 5 checkpoints" in output
    assert (request_.out / "model.safetensors").exists()


@pytest.mark.slow
def test_if_only_the_last_save_fails_the_model_is_saved_all_the_same(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        fill(patched, "optimizer.safetensors")
        output = run(request_)
    assert "No space left on device" in output
    assert "the model is finished all the same" in output
    assert checkpoint.checkpoints(request_.out) == []
    assert Pipeline.load(request_.out).generate("shade number 2", steps=1)[0].size == (8, 8)
    assert "complete: 40 images" in run(request_)  # nothing is trained again
    run(replace(request_, images=44))
    (newest,) = checkpoint.checkpoints(request_.out)
    assert newest.name == "step-00000011"


def test_if_neither_fits_the_run_fails(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, "model.safetensors")  # of the checkpoint, and of the run
    with pytest.raises(CheckpointError, match="No space left on device"):
        run(request_)


@pytest.mark.slow
def test_a_run_that_has_only_its_finish_left_needs_room_for_the_model_alone(
    request_: TrainRequest, set_free: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = replace(request_, out=request_.out.with_name("straight"))
    run(straight)
    with monkeypatch.context() as patched:
        after_step(patched, 40, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Terminated):
            run(request_)
    (newest,) = checkpoint.checkpoints(request_.out)
    saved_at = newest.stat().st_mtime_ns
    set_free((newest / "model.safetensors").stat().st_size)
    run(request_)
    assert newest.stat().st_mtime_ns == saved_at
    names = ("model.safetensors", "evaluation.json")
    assert all((request_.out / name).read_bytes() == (straight.out / name).read_bytes() for name in names)


def test_a_disk_that_fills_up_on_the_way_is_a_warning_until_the_end(
    request_: TrainRequest, set_free: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = PRESETS["nano"](8)
    often = replace(base, train=replace(base.train, save_minutes=1e-9))
    monkeypatch.setitem(PRESETS, "nano", lambda resolution=8: often)
    free = shutil.disk_usage(request_.data).free
    set_free(free, free, 0, 0, later=free)
    assert run(request_).count("warning: cannot write") == 2
    assert (request_.out / "model.safetensors").exists()
