"""Whole runs on a small folder: what they leave behind, how they stop, and how they go on."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from tests.training.conftest import after_step
from torch import Tensor

from tintype.config import PRESETS, Config
from tintype.diffusion.loss import diffusion_loss
from tintype.errors import CheckpointError, ConfigError, DataError, MissingExtraError, TintypeError, TrainingError
from tintype.model import checkpoint
from tintype.model.checkpoint import read_tensors
from tintype.pipeline.pipeline import Pipeline
from tintype.training.checkpoints.run_folder import locked
from tintype.training.core import objective as objective_module
from tintype.training.core.trainer import StepReport, Trainer
from tintype.training.monitor import validate
from tintype.training.monitor.log_rows import read_log
from tintype.training.run import Terminated, TrainRequest, train
from tintype.training.session import Session
from tintype.training.setup import plan
from tintype.training.setup.budget import Budget
from tintype.training.summary import say_done

pytestmark = pytest.mark.usefixtures("tiny_nano")


def run(request: TrainRequest) -> str:
    """Train and return what was printed."""
    out = io.StringIO()
    train(request, Console(file=out, width=200))
    return out.getvalue()


@pytest.fixture
def request_(pictures: Path, tmp_path: Path) -> TrainRequest:
    return TrainRequest(data=pictures, out=tmp_path / "run", images=40, device="cpu")


def weights_of(folder: Path) -> dict[str, Tensor]:
    parts = checkpoint.load_parts(folder, ["model", "weights", "optimizer"])
    return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def assert_same_end(left: Path, right: Path) -> None:
    newest = checkpoint.latest(left), checkpoint.latest(right)
    assert newest[0] is not None
    assert newest[1] is not None
    assert newest[0].name == newest[1].name
    first, second = weights_of(newest[0]), weights_of(newest[1])
    assert set(first) == set(second)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def stop_after(monkeypatch: pytest.MonkeyPatch, images_seen: int, number: int) -> None:
    """Send this process a signal after the step that ends at `images_seen`."""
    after_step(monkeypatch, images_seen, lambda: os.kill(os.getpid(), number))


def test_a_run_leaves_a_model_folder(request_: TrainRequest) -> None:
    output = run(request_)
    folder = request_.out
    assert Config.from_json((folder / "config.json").read_text()).train.images == 40
    assert Config.from_json((folder / "config.json").read_text()).train.warmup_images == 4
    data = json.loads((folder / "data.json").read_text())
    assert len(data["samples"]) == 6
    rows = read_log(folder / "log.jsonl")
    assert rows[-1]["images_seen"] == 40
    newest = checkpoint.latest(folder)
    assert newest == folder / "checkpoints" / "step-00000010"
    assert (folder / "latest").read_text().strip() == "checkpoints/step-00000010"
    final = read_tensors(folder / "model.safetensors")
    averaged = checkpoint.load_parts(newest, ["model"])["model"]
    assert all(torch.equal(final[name], averaged[name]) for name in averaged)
    card = (folder / "README.md").read_text()
    assert "`pictures`" in card
    assert str(request_.data) not in card  # no paths of the maker's machine
    assert "shade number" in card
    assert "plan: 40 images in batches of 4, 6.7 times each" in output
    assert not [path for path in folder.rglob("*") if ".tmp-" in path.name]


def test_the_samples_are_a_grid_with_its_captions(request_: TrainRequest) -> None:
    run(request_)
    captions = (request_.out / "samples" / "captions.txt").read_text().splitlines()
    assert captions == [f"shade number {index}" for index in range(6)]
    with Image.open(request_.out / "samples" / "seen-000000040.png") as sheet:
        assert sheet.width > sheet.height > 200


def test_the_finished_run_and_its_checkpoints_make_pictures(request_: TrainRequest) -> None:
    run(request_)
    final = Pipeline.load(request_.out).generate("shade number 2", seeds=3)[0]
    newest = checkpoint.latest(request_.out)
    assert newest is not None
    assert final.size == (8, 8)
    assert Pipeline.load(newest).generate("shade number 2", seeds=3)[0].tobytes() == final.tobytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_the_same_command_goes_on_exactly(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    handler = signal.getsignal(number)
    other = replace(request_, out=tmp_path / "straight")
    run(other)
    with monkeypatch.context() as patched:
        stop_after(patched, 12, number)
        expected = KeyboardInterrupt if number == signal.SIGINT else Terminated
        with pytest.raises(expected) as stopped:
            run(request_)
        assert number == signal.SIGINT or stopped.value.code == 128 + number
        stop_after(patched, 28, number)
        with pytest.raises(expected):
            run(request_)
    assert not (request_.out / "model.safetensors").exists()
    assert "resuming at 28 of 40 images" in run(request_)
    assert_same_end(request_.out, other.out)
    seen = [row["images_seen"] for row in read_log(request_.out / "log.jsonl")]
    assert seen == sorted(seen)
    assert signal.getsignal(number) == handler


def test_a_run_that_is_preempted_asks_to_be_started_again(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 12, signal.SIGUSR2)
    with pytest.raises(Terminated) as stopped:
        run(request_)
    assert stopped.value.code == 75
    newest = checkpoint.latest(request_.out)
    assert newest is not None
    assert newest.name == "step-00000003"


def test_a_run_that_is_asked_says_where_it_stands(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, 12, signal.SIGUSR1)
    output = run(request_)
    assert "of 40 images" in output
    assert 12 in [row["images_seen"] for row in read_log(request_.out / "log.jsonl")]
    assert (request_.out / "model.safetensors").exists()


def test_curves_are_written_where_they_are_asked_for(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            assert folder == str(request_.out / "tensorboard")

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None:
            pass

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter))
    run(replace(request_, tensorboard=True))
    assert {name for name, _, _ in written} == {"loss", "lr", "grad_norm", "images_per_second"}
    assert written[-1][2] == 40
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"tintype\[tensorboard\]"):
        run(replace(request_, out=request_.out.with_name("other"), tensorboard=True))


def test_a_second_signal_ends_the_program_at_once(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []

    def twice(self: Trainer) -> StepReport:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError

    monkeypatch.setattr(Trainer, "_step", twice)
    monkeypatch.setattr(Session, "save", lambda self: saved.append(1))
    with pytest.raises(KeyboardInterrupt):
        run(request_)
    assert saved == []


def test_a_signal_that_is_ignored_stays_ignored(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        stop_after(monkeypatch, 12, signal.SIGHUP)
        run(request_)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (request_.out / "model.safetensors").exists()


def read_state(folder: Path) -> dict[str, Any]:
    newest = checkpoint.latest(folder)
    assert newest is not None
    return dict(json.loads((newest / "state.json").read_text()))


def test_a_finished_run_names_a_command_that_makes_a_picture(request_: TrainRequest) -> None:
    lines = run(request_).splitlines()
    index = next(number for number, line in enumerate(lines) if line.startswith("done: "))
    words = shlex.split(lines[index + 1])
    assert words[:2] == ["tintype", "generate"]
    assert words[2] in [f"shade number {number}" for number in range(6)]
    assert words[3:] == ["--model", str(request_.out)]


@pytest.mark.parametrize(
    ("captions", "run_name", "says"),
    [
        (["it's; rm -rf *", "long " * 90], "my run", """tintype generate 'it'"'"'s; rm -rf *' --model 'my run'"""),
        (["", "-n", "long " * 90], "run", "tintype generate --model=run -- -n"),
        (["x"], "shapes", "tintype generate x --model ./shapes"),  # a shipped model has that name
        (["x"], "two  spaces", ""),
        (["x"], "own net", ""),
    ],
)
def test_that_command_can_be_copied(captions: list[str], run_name: str, says: str) -> None:
    names = {"net": "my.net"} if run_name == "own net" else {}
    prepared = SimpleNamespace(
        dataset=SimpleNamespace(captions=[[caption] for caption in captions]),
        components=SimpleNamespace(names=lambda: names),
    )
    out = io.StringIO()
    say_done(Path(run_name), prepared, Console(file=out))  # type: ignore[arg-type]
    assert [line.strip() for line in out.getvalue().splitlines()[1:]] == ([says] if says else [])


def test_a_complete_run_is_left_alone(request_: TrainRequest) -> None:
    run(request_)
    before = {path: path.stat().st_mtime_ns for path in request_.out.rglob("*") if path.is_file()}
    output = run(request_)
    assert re.search(r"complete: 40 images in \d+ s; nothing to do", output)
    assert "--images, such as 80" in output
    longer = run(replace(request_, images=None, minutes=10.0))
    match = re.search(r"to train this one for 10 min in all, give --images (\d+)", longer)
    assert match is not None
    images, seconds = int(match[1]), read_state(request_.out)["seconds"]
    assert images % 4 == 0
    assert images == pytest.approx(40 * 600 / seconds, abs=4)
    assert {path: path.stat().st_mtime_ns for path in request_.out.rglob("*") if path.is_file()} == before


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and "pack" not in str(path)}


def test_other_settings_are_refused_by_name_and_nothing_is_touched(request_: TrainRequest) -> None:
    run(request_)
    before = files_of(request_.out)
    for other, name in (
        (replace(request_, lr=0.5), "train.lr"),
        (replace(request_, batch_size=5), "train.batch_size"),
        (replace(request_, seed=9), "train.seed"),
        (replace(request_, resolution=16), "net.resolution"),
        (replace(request_, text="minilm"), "text.encoder"),
        (replace(request_, preset="small"), "preset"),
    ):
        with pytest.raises(CheckpointError, match=name):
            run(other)
    with pytest.raises(CheckpointError, match=r"0\.5 now"):
        run(replace(request_, lr=0.5))
    with pytest.raises(CheckpointError, match="already holds a run"):
        run(replace(request_, resume="never"))
    assert files_of(request_.out) == before


@pytest.mark.slow
def test_a_run_may_be_made_longer_and_save_at_other_times(request_: TrainRequest) -> None:
    run(request_)
    output = run(replace(request_, images=48, save_minutes=1.0, keep_last=2, micro_batch=2))
    assert "changed: train.images was 40 and is 48 now" in output
    assert "changed: train.keep_last was 3 and is 2 now" in output
    assert "resuming at 40 of 48 images" in output
    newest = checkpoint.latest(request_.out)
    assert newest is not None
    assert newest.name == "step-00000012"
    final = read_tensors(request_.out / "model.safetensors")
    averaged = checkpoint.load_parts(newest, ["model"])["model"]
    assert all(torch.equal(final[name], averaged[name]) for name in averaged)
    assert "complete: 48 images" in run(replace(request_, images=None))


def test_other_data_is_refused_and_nothing_is_touched(request_: TrainRequest) -> None:
    run(request_)
    before = files_of(request_.out)
    (request_.data / "0.txt").write_text("something else", encoding="utf-8")
    with pytest.raises(CheckpointError, match="changed since the run was started"):
        run(request_)
    assert files_of(request_.out) == before


def test_settings_that_are_not_given_stay_as_the_run_has_them(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_after(patched, 12, signal.SIGTERM)
        with pytest.raises(Terminated):
            run(replace(request_, lr=2e-3, batch_size=6))
    run(replace(request_, images=None))
    config = Config.from_json((request_.out / "config.json").read_text())
    assert (config.train.images, config.train.lr, config.train.batch_size) == (40, 2e-3, 6)


def test_damaged_checkpoints_are_passed_over_with_a_warning(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = replace(request_, out=tmp_path / "straight")
    run(straight)
    for images in (12, 24):
        with monkeypatch.context() as patched:
            stop_after(patched, images, signal.SIGTERM)
            with pytest.raises(Terminated):
                run(request_)
    newest = checkpoint.step_folder(request_.out, 6)
    (newest / "weights.safetensors").write_bytes(b"\0")
    output = run(request_)
    assert (
        "step-00000006/weights.safetensors is damaged: it does not match the manifest; resuming from an older" in output
    )
    assert "resuming at 12 of 40" in output
    assert_same_end(request_.out, straight.out)


def test_without_one_whole_checkpoint_nothing_is_started_over(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_after(patched, 12, signal.SIGTERM)
        with pytest.raises(Terminated):
            run(request_)
    (checkpoint.step_folder(request_.out, 3) / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="every checkpoint"):
        run(request_)


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_starts_over(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = replace(request_, out=tmp_path / "straight")
    run(straight)

    def killed(self: Trainer) -> StepReport:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_step", killed)
        with pytest.raises(ZeroDivisionError):
            run(request_)
    assert (request_.out / "config.json").exists()
    run(request_)
    assert_same_end(request_.out, straight.out)


@pytest.mark.slow
def test_going_on_from_a_checkpoint_given_by_hand(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_after(patched, 12, signal.SIGTERM)
        with pytest.raises(Terminated):
            run(request_)
    folder = checkpoint.step_folder(request_.out, 3)
    branch = replace(request_, out=tmp_path / "branch", resume=str(folder))
    assert "resuming at 12" in run(branch)
    run(replace(request_, resume=str(request_.out)))
    assert_same_end(request_.out, branch.out)
    with pytest.raises(CheckpointError, match="another checkpoint"):
        run(replace(request_, resume=str(folder)))
    with pytest.raises(CheckpointError, match="neither a checkpoint nor a run"):
        run(replace(request_, out=tmp_path / "new", resume=str(tmp_path / "missing")))
    assert not (tmp_path / "new").exists()


def test_starting_from_another_model(request_: TrainRequest, tmp_path: Path) -> None:
    run(request_)
    child = replace(request_, out=tmp_path / "child", from_model=str(request_.out), images=4, lr=1e-8)
    run(child)
    parent, start = (read_tensors(out / "model.safetensors") for out in (request_.out, child.out))
    assert all(torch.allclose(parent[name], start[name], atol=1e-5) for name in parent)
    assert (child.out / "tokenizer.json").read_bytes() == (request_.out / "tokenizer.json").read_bytes()
    with pytest.raises(CheckpointError, match="no model"):
        run(replace(child, out=tmp_path / "other", from_model=str(tmp_path / "missing")))


@pytest.mark.slow
def test_starting_from_a_model_made_when_its_preset_had_another_shape(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(request_)
    old = Config.from_json((request_.out / "config.json").read_text())
    now = replace(old, net=replace(old.net, stem_depth=old.net.stem_depth + 1))
    monkeypatch.setitem(PRESETS, "nano", lambda resolution=8: now)
    for number, preset in enumerate((None, "nano")):
        out = tmp_path / f"child-{number}"
        run(replace(request_, out=out, from_model=str(request_.out), images=4, preset=preset))
        assert Config.from_json((out / "config.json").read_text()).net == old.net
    assert "complete" in run(request_)


@pytest.mark.slow
def test_starting_from_a_model_of_another_resolution(request_: TrainRequest, tmp_path: Path) -> None:
    run(request_)
    child = replace(request_, out=tmp_path / "child", from_model=str(request_.out), resolution=16, images=4, lr=1e-8)
    run(child)
    parent, start = (read_tensors(out / "model.safetensors") for out in (request_.out, child.out))
    assert all(torch.allclose(parent[name], start[name], atol=1e-5) for name in parent)
    old, new = (Config.from_json((out / "config.json").read_text()) for out in (request_.out, child.out))
    assert new.net == replace(old.net, resolution=16)
    assert new.noise.log_sigma_mean == pytest.approx(old.noise.log_sigma_mean + 0.3466, abs=1e-3)
    assert new.sample.schedule_center == old.sample.schedule_center
    assert Pipeline.load(child.out).generate("shade number 2", steps=1)[0].size == (16, 16)
    assert "complete" in run(replace(child, from_model=None))


def test_a_model_to_start_from_must_fit(request_: TrainRequest, tmp_path: Path) -> None:
    run(request_)
    child = replace(request_, out=tmp_path / "child", from_model=str(request_.out))
    for other, message in (
        (replace(child, text="minilm"), "was trained with text encoder learned"),
        (replace(child, preset="small", text="learned"), "another network than preset small"),
        (replace(child, resolution=18), "multiple of the patch"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(other)
        assert not child.out.exists()


def test_two_trainers_in_one_folder(request_: TrainRequest) -> None:
    with locked(request_.out), pytest.raises(TrainingError, match="another run is training"):
        run(request_)


def test_a_folder_with_other_things_in_it_is_refused(request_: TrainRequest) -> None:
    request_.out.mkdir()
    (request_.out / "holiday.jpg").write_text("")
    with pytest.raises(CheckpointError, match=r"holiday\.jpg"):
        run(request_)
    with pytest.raises(TrainingError, match="cannot write"):
        run(replace(request_, out=request_.out / "holiday.jpg"))


def test_a_request_that_cannot_work_leaves_nothing_behind(request_: TrainRequest, tmp_path: Path) -> None:
    wrong: list[tuple[TrainRequest, type[TintypeError]]] = [
        (replace(request_, data=tmp_path / "missing"), DataError),
        (replace(request_, preset="giant"), ConfigError),
        (replace(request_, steps=3), ConfigError),
        (replace(request_, images=None, minutes=0.0), ConfigError),
        (replace(request_, images=0), ConfigError),
        (replace(request_, resolution=9), ConfigError),
        (replace(request_, lr=-1.0), ConfigError),
        (replace(request_, text="morse"), ConfigError),
        (replace(request_, device="abacus"), ConfigError),
    ]
    for request, error in wrong:
        with pytest.raises(error):
            run(request)
        assert not request_.out.exists()


def test_a_dry_run_says_the_plan_and_keeps_nothing(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "MEASURE_SECONDS", 0.1)
    output = run(replace(request_, dry_run=True, plan=tmp_path / "plan.json"))
    assert "plan: 40 images" in output
    assert "images/s" in output
    assert not request_.out.exists()
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["images"] == 40
    assert content["images"] / content["pictures"] == pytest.approx(content["times_each"], abs=0.01)
    assert f"{content['images_per_second']:.1f} images/s" in output
    assert content["seconds"] >= content["images"] / content["images_per_second"] - 0.1
    assert content["disk_bytes"] > content["checkpoint_bytes"] > 0


def test_a_time_budget_becomes_a_plan_that_is_kept(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(request_, images=None, minutes=0.05)
    monkeypatch.setattr(plan, "images_within", lambda seconds, speed, train: 48)
    monkeypatch.setattr(Budget, "images", lambda self, images_seen, train: None)
    with monkeypatch.context() as patched:
        stop_after(patched, 12, signal.SIGTERM)
        with pytest.raises(Terminated):
            run(request)
    config = Config.from_json((request_.out / "config.json").read_text())
    assert (config.train.images, config.train.warmup_images) == (48, 4)
    run(request)
    assert Config.from_json((request_.out / "config.json").read_text()) == config
    straight = replace(request_, out=tmp_path / "straight", images=48)
    run(straight)
    assert_same_end(request_.out, straight.out)  # measuring left no trace


@pytest.mark.parametrize("images", [pytest.param(24, marks=pytest.mark.slow), 64])
def test_a_run_whose_end_moves_is_bit_for_bit_the_run_of_its_final_length(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    monkeypatch.setattr(plan, "images_within", lambda seconds, speed, train: 40)
    monkeypatch.setattr(Budget, "images", lambda self, images_seen, train: images if images_seen == 12 else None)
    request = replace(request_, images=None, minutes=0.05)
    with monkeypatch.context() as patched:
        stop_after(patched, 16, signal.SIGTERM)
        with pytest.raises(Terminated):
            run(request)
    run(request)
    config = Config.from_json((request.out / "config.json").read_text())
    assert config.train.images == images
    straight = replace(request_, out=tmp_path / "straight", images=None, config=config)
    run(straight)
    assert_same_end(request.out, straight.out)
    assert {"images": images, "before": 40} in [row.get("replanned") for row in read_log(request.out / "log.jsonl")]


def test_samples_and_checkpoints_come_when_they_are_due(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = PRESETS["nano"](8)
    often = replace(base, train=replace(base.train, save_minutes=1e-9, sample_minutes=1e-9))
    monkeypatch.setitem(PRESETS, "nano", lambda resolution=8: often)
    run(request_)
    assert [folder.name[-2:] for folder in checkpoint.checkpoints(request_.out)] == ["10", "09", "08"]
    assert len(list((request_.out / "samples").glob("*.png"))) == 10


def test_samples_that_cannot_be_written_do_not_stop_the_run(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(validate, "sample_grid", full)
    assert "warning: no samples" in run(request_)
    assert (request_.out / "model.safetensors").exists()


def test_a_run_whose_numbers_fail_stops_with_an_error_and_keeps_the_last_good_checkpoint(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_after(patched, 12, signal.SIGTERM)
        with pytest.raises(Terminated):
            run(replace(request_, images=400))
    good = checkpoint.latest(request_.out)
    monkeypatch.setattr(objective_module, "diffusion_loss", lambda *args: diffusion_loss(*args) * float("nan"))
    with pytest.raises(TrainingError):
        run(replace(request_, images=400))
    assert checkpoint.latest(request_.out) == good
    assert not (request_.out / "model.safetensors").exists()


def test_weights_that_are_not_finite_are_never_saved(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainer.steps

    def poisoned(self: Trainer, until: int) -> Iterator[StepReport]:
        for report in original(self, until):
            with torch.no_grad():
                next(self.denoiser.parameters()).fill_(float("nan"))
            yield report

    monkeypatch.setattr(Trainer, "steps", poisoned)
    with pytest.raises(TrainingError):
        run(replace(request_, images=4))
    assert checkpoint.checkpoints(request_.out) == []
    assert not (request_.out / "model.safetensors").exists()
