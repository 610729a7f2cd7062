"""When numbers fail: skipped steps, returns to a checkpoint, an end with an error; and losses that stand out."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from tintype.cli.main import main
from tintype.config import PRESETS
from tintype.diffusion.loss import diffusion_loss
from tintype.errors import TrainingError
from tintype.model import checkpoint
from tintype.training.core import objective
from tintype.training.core.trainer import MAX_SKIPPED, StepReport, Trainer
from tintype.training.monitor.log_rows import read_log
from tintype.training.monitor.spikes import MIN_LOSSES, Spikes, largest_losses
from tintype.training.run import TrainRequest, train
from tintype.training.session import MAX_RETURNS

pytestmark = pytest.mark.usefixtures("tiny_nano")


@pytest.fixture
def request_(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainRequest:
    """A run that saves after every step."""
    base = PRESETS["nano"](8)
    often = replace(base, train=replace(base.train, save_minutes=1e-9, sample_minutes=1e9))
    monkeypatch.setitem(PRESETS, "nano", lambda resolution=8: often)
    return TrainRequest(data=pictures, out=tmp_path / "run", images=64, device="cpu")


def run(request: TrainRequest) -> str:
    out = io.StringIO()
    train(request, Console(file=out, width=400))
    return out.getvalue()


def poison(monkeypatch: pytest.MonkeyPatch, bad: range) -> list[int]:
    """The loss of samples at the positions `bad` is not a number. Returns a list that gets all positions shown."""
    seen: list[int] = []
    original = objective.Objective._losses

    def losses(self: objective.Objective, part: objective.ShapeBatch) -> Tensor:
        seen.extend(part.positions.tolist())
        mask = torch.tensor([position in bad for position in part.positions.tolist()])
        return original(self, part) * torch.where(mask, math.nan, 1.0)

    monkeypatch.setattr(objective.Objective, "_losses", losses)
    return seen


@pytest.mark.slow
def test_one_bad_sample_costs_its_step_and_is_named(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, range(21, 22))
    output = run(request_)
    assert "skipped, at 24 images" in output
    (row,) = [row["skipped"] for row in read_log(request_.out / "log.jsonl") if "skipped" in row]
    assert row["loss"] is None
    assert row["pictures"][0] in output
    assert {f"{number}.png" for number in range(6)} >= set(row["pictures"])
    newest = checkpoint.latest(request_.out)
    assert newest is not None
    assert '"num_skipped": 1' in (newest / "state.json").read_text()


@pytest.mark.slow
def test_a_bad_stretch_is_passed_over_from_the_last_good_checkpoint(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = poison(monkeypatch, range(20, 20 + 4 * MAX_SKIPPED))
    output = run(request_)
    end = 20 + 4 * MAX_SKIPPED
    assert f"restored the weights of step-00000005, skipping images 20 to {end}" in output
    assert sorted(seen) == list(range(64))  # nothing is shown twice
    (row,) = [row["went_back"] for row in read_log(request_.out / "log.jsonl") if "went_back" in row]
    assert row == {"checkpoint": "step-00000005", "from": 20, "until": end}
    newest = checkpoint.latest(request_.out)
    assert newest is not None
    assert newest.name == "step-00000016"
    assert f'"num_skipped": {MAX_SKIPPED}' in (newest / "state.json").read_text()
    assert (request_.out / "model.safetensors").is_file()


def test_weights_that_broke_are_replaced_by_those_of_the_last_checkpoint(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.steps

    def broken_once(self: Trainer, until: int) -> Iterator[StepReport]:
        for report in original(self, until):
            if report.images_seen == 40:
                with torch.no_grad():
                    next(self.denoiser.parameters()).fill_(math.inf)
            yield report

    monkeypatch.setattr(Trainer, "steps", broken_once)
    output = run(request_)
    assert "restored the weights of" in output
    for folder in checkpoint.checkpoints(request_.out):
        for tensors in checkpoint.load_parts(folder, checkpoint.part_names(folder)).values():
            assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


@pytest.mark.slow
def test_when_going_back_does_not_help_the_run_ends_with_an_error(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(monkeypatch, range(20, 10**9))
    request = replace(request_, images=4000)
    with pytest.raises(TrainingError) as error:
        run(request)
    step = 5 + (MAX_RETURNS + 1) * MAX_SKIPPED
    message = str(error.value)
    assert f"{MAX_RETURNS} returns to a checkpoint did not help, at {4 * step:,} images, step {step}" in message
    assert "--lr" in message
    good = checkpoint.latest(request.out)
    assert good is not None
    assert good.name == "step-00000005"
    assert not (request.out / "model.safetensors").exists()
    assert main(["train", str(request.data), "--out", str(request.out), "--device", "cpu"]) == 1
    assert "did not help" in capsys.readouterr().err


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "diffusion_loss", lambda *args: diffusion_loss(*args) * math.nan)
    with pytest.raises(TrainingError, match="no checkpoint was saved yet"):
        run(request_)
    assert checkpoint.checkpoints(request_.out) == []


def report(loss: float, skipped: bool = False) -> StepReport:
    return StepReport(4, loss, 1.0, 1e-3, skipped)


def test_a_spike_stands_far_above_what_was_seen_lately() -> None:
    spikes = Spikes()
    assert not spikes.is_spike(report(100.0))  # nothing to compare with
    spikes = Spikes()
    assert not any(spikes.is_spike(report(1.0 + 0.5 * (index % 3))) for index in range(MIN_LOSSES))
    assert not spikes.is_spike(report(math.nan, skipped=True))
    assert not spikes.is_spike(report(2.5))
    assert spikes.is_spike(report(9.0))
    assert not spikes.is_spike(report(9.0))  # known by now


def test_the_worst_are_those_that_are_not_finite_then_the_largest() -> None:
    assert largest_losses(torch.tensor([1.0, 5.0, math.nan, 2.0, 3.0])).tolist() == [2, 1, 4, 3]
    assert largest_losses(torch.tensor([1.0, -math.inf])).tolist() == [1, 0]


@pytest.mark.slow
def test_a_spike_is_logged_with_its_pictures(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    original = objective.Objective._losses

    def losses(self: objective.Objective, part: objective.ShapeBatch) -> Tensor:
        mask = torch.tensor([position == 150 for position in part.positions.tolist()])
        return original(self, part) * torch.where(mask, 1e5, 1.0)

    monkeypatch.setattr(objective.Objective, "_losses", losses)
    output = run(replace(request_, images=160, save_minutes=5.0))
    (row,) = [row for row in read_log(request_.out / "log.jsonl") if "spike" in row]
    assert row["images_seen"] == 152
    assert row["spike"]["pictures"][0] in output
