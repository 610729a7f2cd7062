"""A run folder that goes away while it trains, and a machine that computes otherwise when a run resumes."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.training.conftest import after_step

from tintype.errors import TrainingError
from tintype.model.store import find
from tintype.training import saving
from tintype.training.checkpoints.run_folder import locked
from tintype.training.run import TrainRequest, train

pytestmark = pytest.mark.usefixtures("tiny_nano")


@pytest.fixture
def request_(pictures: Path, tmp_path: Path) -> TrainRequest:
    return TrainRequest(data=pictures, out=tmp_path / "run", images=40, device="cpu")


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(request: TrainRequest) -> str:
    """Train and return what was printed."""
    out = io.StringIO()
    train(request, Console(file=out, width=300))
    return out.getvalue()


@pytest.mark.parametrize(
    "away", [lambda run: run.rename(run.with_name("moved")), shutil.rmtree], ids=["moved", "deleted"]
)
@pytest.mark.parametrize("images", [16, 40], ids=["in the middle", "after the last step"])
def test_a_run_whose_folder_goes_away_fails_and_makes_no_other(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch, away: Callable[[Path], object], images: int
) -> None:
    monkeypatch.setattr(saving, "_LOCK_SECONDS", 0.0)
    after_step(monkeypatch, images, lambda: away(request_.out))
    with pytest.raises(TrainingError, match="was moved or deleted while it trained"):
        run(request_)
    assert not (request_.out / "config.json").exists()
    assert not (request_.out / "model.safetensors").exists()


def test_a_run_that_is_moved_back_resumes(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "_LOCK_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        after_step(patch, 16, lambda: request_.out.rename(tmp_path / "moved"))
        with pytest.raises(TrainingError):
            run(replace(request_, save_minutes=1e-6))
    shutil.rmtree(request_.out, ignore_errors=True)
    (tmp_path / "moved").rename(request_.out)
    assert "resuming at" in run(replace(request_, save_minutes=1e-6))
    assert find(request_.out).folder == request_.out


def test_another_folder_at_the_same_path_is_noticed(tmp_path: Path) -> None:
    with locked(tmp_path / "run") as lock:
        lock.check()
        (tmp_path / "run").rename(tmp_path / "moved")
        shutil.copytree(tmp_path / "moved", tmp_path / "run")
        with pytest.raises(TrainingError, match="moved or deleted"):
            lock.check()


@pytest.mark.slow
def test_another_number_of_threads_or_version_of_torch_is_said(
    request_: TrainRequest, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    assert "bit for bit" not in run(replace(request_, images=16))
    assert "bit for bit" not in run(replace(request_, images=24))
    torch.set_num_threads(2)
    printed = run(replace(request_, images=32))
    assert "1 threads before, 2 now: the run is no longer bit for bit the uninterrupted one" in printed
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert "as the version of torch before, 9.9 now" in run(replace(request_, images=40))


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_keeps_its_precision(request_: TrainRequest, bf16: bool) -> None:
    run(replace(request_, images=16))
    run_folder = request_.out
    start = json.loads((run_folder / "start.json").read_text())
    assert set(start) == {"device", "bf16", "tf32", "deterministic", "compiled", "threads", "torch"}
    shutil.rmtree(run_folder / "checkpoints")
    for name in ("latest", "model.safetensors"):
        (run_folder / name).unlink(missing_ok=True)
    (run_folder / "start.json").write_text(json.dumps({**start, "bf16": bf16}))
    assert f"on cpu, {'bfloat16' if bf16 else 'float32'}" in run(request_)


@pytest.mark.slow
def test_a_damaged_record_of_the_start_is_one_line(request_: TrainRequest) -> None:
    run(replace(request_, images=16))
    (request_.out / "start.json").write_text("[1")
    with pytest.raises(Exception, match=r"start\.json is damaged; delete it"):
        run(request_)
    (request_.out / "start.json").unlink()
    run(request_)
