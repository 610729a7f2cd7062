"""Distillation: what a student is shown and taught, and whole runs of `tintype distill` on a small folder."""

from __future__ import annotations

import io
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from tests.training.conftest import DrawnSamples, after_step
from torch import Tensor

from tintype.cli.main import main
from tintype.cli.run.info import info
from tintype.config import Config, DistillConfig, SampleConfig
from tintype.diffusion.guidance import guide
from tintype.errors import CheckpointError, ConfigError
from tintype.model import checkpoint
from tintype.model.denoiser import Denoiser
from tintype.model.store import find, read_config, weights_hash
from tintype.pipeline.pipeline import Pipeline
from tintype.training.core.target import SHARE_OF_LEVELS, TeacherFlow, student_levels
from tintype.training.core.trainer import Trainer
from tintype.training.core.validation_error import ValidationMetrics
from tintype.training.model_card import model_card
from tintype.training.run import Terminated, TrainRequest, train
from tintype.training.setup.request import DistillRequest

CPU = torch.device("cpu")
SENT = [torch.full((2, 4), 0.3).half(), torch.zeros(0, 4).half(), *[torch.full((1, 4), -0.2).half()] * 2]


def scrambled(config: Config) -> Denoiser:
    """A denoiser that says something: fresh ones say nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        denoiser = Denoiser(config)
        with torch.no_grad():
            for weight in denoiser.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    return denoiser


def student(config: Config, steps: int, guidance: float = 1.0, teacher_steps: int = 1) -> Config:
    """The configuration of a student."""
    distill = DistillConfig(teacher="t", teacher_hash="h", steps=steps, teacher_steps=teacher_steps, guidance=guidance)
    return replace(config, distill=distill)


def test_what_a_student_is_shown_is_mostly_at_the_levels_of_its_own_steps(tiny: Config) -> None:
    config = student(tiny, 3)
    target = TeacherFlow(scrambled(tiny), config, CPU)
    positions = torch.arange(4000)
    sigma = target.sigmas(positions)
    shares = torch.stack([(sigma == level).double().mean() for level in torch.tensor(target.levels)])
    assert shares.tolist() == pytest.approx([SHARE_OF_LEVELS / 3] * 3, abs=0.03)
    assert float(sigma.min()) >= 0.02
    assert float(sigma.max()) == 80.0
    assert torch.equal(target.sigmas(positions[100:110]), sigma[100:110])


def test_one_step_of_the_teacher_is_what_it_says_with_guidance_where_that_acts(tiny: Config) -> None:
    teacher = scrambled(tiny)
    target = TeacherFlow(teacher, student(tiny, 2, guidance=3.0), CPU)
    # Above the interval; inside, without and with a caption; and where guidance comes up at an end of it.
    sigma = torch.tensor([80.0, 5.0, 5.0, 8.0])
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    learned = target(x, x, sigma, SENT)
    with torch.no_grad():
        told_by_teacher = teacher.conditioned(teacher.condition(SENT))
        untold = teacher.conditioned(teacher.condition([SENT[1]] * 4))
        expected = guide(told_by_teacher, untold, torch.tensor([1.0, 1.0, 3.0, 3.0]), (0.4, 10.0))(x, sigma)
    torch.testing.assert_close(learned, expected)
    assert not torch.allclose(learned[2:], told_by_teacher(x, sigma)[2:])


def test_a_student_that_is_a_one_step_teacher_has_no_error(tiny: Config) -> None:
    """With a single step of an unguided teacher the target is what the teacher says: its copy is right already."""
    config = student(tiny, 4)
    trainer = Trainer(scrambled(config), DrawnSamples(), config, CPU, target=TeacherFlow(scrambled(tiny), config, CPU))
    assert set(trainer.held_out_error()) == {float(level) for level in student_levels(config)[:-1]}
    assert max(trainer.held_out_error().values()) < 1e-9
    assert next(trainer.steps(4)).loss < 1e-9


@pytest.mark.slow
def test_training_lowers_the_distance_to_where_the_flow_ends(tiny: Config) -> None:
    config = student(replace(tiny, train=replace(tiny.train, images=240, lr=3e-3)), 2, 1.0, 2)
    trainer = Trainer(scrambled(config), DrawnSamples(), config, CPU, target=TeacherFlow(scrambled(tiny), config, CPU))
    before = trainer.held_out_error()
    for _ in trainer.steps(240):
        pass
    after = trainer.held_out_error()
    assert sum(after.values()) < 0.8 * sum(before.values())


# Whole runs


def run(request: TrainRequest) -> str:
    out = io.StringIO()
    train(request, Console(file=out, width=200))
    return out.getvalue()


@pytest.fixture
def teacher(pictures: Path, tmp_path: Path, tiny_nano: None) -> Path:
    folder = tmp_path / "teacher"
    run(TrainRequest(data=pictures, out=folder, images=24, text="learned", device="cpu"))
    return folder


@pytest.fixture
def request_(pictures: Path, tmp_path: Path, teacher: Path) -> TrainRequest:
    return TrainRequest(
        data=pictures,
        out=tmp_path / "run",
        images=40,
        device="cpu",
        from_model=str(teacher),
        distill=DistillRequest(steps=2),
    )


def test_the_command_leaves_a_model_that_makes_pictures_in_its_few_steps(
    pictures: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fast"
    options = ["--data", str(pictures), "--out", str(out), "--steps", "1", "--images", "16", "--device", "cpu"]
    assert main(["distill", str(teacher), *options]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    config = read_config(find(str(out)))
    sha256 = weights_hash(find(str(teacher)))
    assert (config.sample.sampler, config.sample.steps, config.sample.guidance) == ("euler", 1, 1.0)
    assert (config.distill.teacher, config.distill.teacher_hash) == ("teacher", sha256)
    assert (config.distill.steps, config.distill.teacher_steps, config.distill.guidance) == (1, 2, 3.0)
    card = (out / "README.md").read_text()
    assert f"| distilled from | teacher, sha256 `{sha256}` |" in card
    assert any(f"from teacher (sha256 {sha256[:10]}...)" in line for line in info(str(out)))
    pipeline = Pipeline.load(out)
    steps = list(pipeline.stream("shade number 2", seeds=1))
    assert len(steps) == 1
    assert main(["generate", "shade number 2", "--model", str(out), "--seed", "1", "--output", str(out / "p.png")]) == 0
    with Image.open(out / "p.png") as picture:
        assert picture.convert("RGB").tobytes() == pipeline.pictures(steps[-1].denoised)[0].tobytes()


def test_a_card_says_what_its_errors_are_measured_against(tiny: Config) -> None:
    facts = {
        "data": "d", "num_training": 9, "num_held_out": 1, "num_left_out": 0, "fingerprint": "f", "num_weights": 5,
        "images_seen": 8, "seconds": 1.0, "ema_width": 0.05,
        "metrics": ValidationMetrics(8, {"true": {80.0: 1.4e-5}}), "caption": "c",
    }  # fmt: skip
    card = model_card("m", student(tiny, 1), **facts)  # type: ignore[arg-type]
    assert "the noise that leads to the end of the teacher's flow" in card
    assert "| 80 | 1.4e-05 |" in card
    plain = model_card("m", tiny, **facts)  # type: ignore[arg-type]
    assert "error of the predicted noise by noise level" in plain
    assert "teacher" not in plain


@pytest.mark.slow
def test_a_stopped_distillation_goes_on_bit_for_bit(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = replace(request_, out=request_.out.with_name("straight"))
    run(straight)
    with monkeypatch.context() as patch:
        after_step(patch, 12, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Terminated):
            run(request_)
    assert "resuming at 12 of 40 images" in run(request_)
    left, right = (_everything(folder) for folder in (straight.out, request_.out))
    assert set(left) == set(right)
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def _everything(folder: Path) -> dict[str, Tensor]:
    newest = checkpoint.latest(folder)
    assert newest is not None
    parts = checkpoint.load_parts(newest, checkpoint.part_names(newest))
    parts["final"] = checkpoint.read_tensors(folder / "model.safetensors")
    return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def test_the_student_starts_as_its_teacher(request_: TrainRequest, teacher: Path) -> None:
    run(replace(request_, images=4, lr=1e-8))
    student_tensors, teacher_tensors = (
        checkpoint.read_tensors(folder / "model.safetensors") for folder in (request_.out, teacher)
    )
    assert max(float((student_tensors[name] - teacher_tensors[name]).abs().max()) for name in teacher_tensors) < 1e-6


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_teacher_only(request_: TrainRequest, teacher: Path, pictures: Path) -> None:
    run(request_)
    longer = replace(request_, images=48)
    moved = teacher.with_name("moved")
    shutil.copytree(teacher, moved)
    assert "changed: distill.teacher was 'teacher' and is 'moved' now" in run(replace(longer, from_model=str(moved)))
    other = teacher.with_name("other")
    run(TrainRequest(data=pictures, out=other, images=8, text="learned", device="cpu"))
    with pytest.raises(CheckpointError, match=r"is distilled from moved with sha256 .* but other has"):
        run(replace(longer, from_model=str(other)))
    with pytest.raises(CheckpointError, match=r"distill.steps was 2 and is 3 now"):
        run(replace(longer, distill=DistillRequest(steps=3)))
    with pytest.raises(CheckpointError, match="resume with tintype distill"):
        run(TrainRequest(data=pictures, out=request_.out, device="cpu"))
    with pytest.raises(CheckpointError, match="is a run of tintype train"):
        run(replace(request_, out=other, from_model=str(teacher)))


def test_what_cannot_be_a_teacher_is_said_before_anything_is_made(request_: TrainRequest, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model"):
        run(replace(request_, from_model=str(tmp_path / "nothing")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="is not a model"):
        run(replace(request_, from_model=str(tmp_path / "empty")))
    with pytest.raises(ConfigError, match="--steps must be from 1 to 16, not 0"):
        run(replace(request_, distill=DistillRequest(steps=0)))
    assert not request_.out.exists()
    run(request_)
    again = replace(request_, from_model=str(request_.out), out=tmp_path / "again")
    with pytest.raises(ConfigError, match="is itself distilled, from teacher"):
        run(again)
    assert not again.out.exists()


def test_zero_steps_are_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "shapes", "--data", str(tmp_path), "--out", str(tmp_path / "x"), "--steps", "0"]) == 2
    assert "--steps" in capsys.readouterr().err


@pytest.mark.slow
def test_training_on_from_a_student_is_ordinary_training(request_: TrainRequest, tmp_path: Path) -> None:
    run(request_)
    student = read_config(find(str(request_.out)))
    student = replace(student, sample=replace(student.sample, schedule_center=1.4))
    (request_.out / "config.json").write_text(student.to_json())
    out = tmp_path / "on"
    run(TrainRequest(data=request_.data, out=out, from_model=str(request_.out), images=8, device="cpu"))
    config = read_config(find(str(out)))
    assert config.distill == DistillConfig()
    assert config.sample == SampleConfig(schedule_center=1.4)  # of its resolution, which stays
