"""However training is cut into pieces, it ends the same: resuming, micro-batches, readers, old runs."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from tintype.config import Config
from tintype.data.sources import files, walk
from tintype.errors import ConfigError
from tintype.model import checkpoint
from tintype.pipeline.pipeline import Pipeline
from tintype.training.core.exactness import deterministic
from tintype.training.core.objective import ShapeBatch, micro_batches
from tintype.training.core.trainer import StepReport, Trainer
from tintype.training.core.weights import snapshot
from tintype.training.run import TrainRequest, train

Make = Callable[..., Trainer]
GOLDEN = Path(__file__).parent.parent / "golden"
BATCH = 4  # of epochs of 9


def with_train(config: Config, **settings: int) -> Config:
    return replace(config, train=replace(config.train, **settings))


def go_on(old: Trainer, new: Trainer) -> Trainer:
    new.load(snapshot(old.tensors()), old.counts())
    return new


def exact_on(device: torch.device) -> AbstractContextManager[None]:
    """A CPU is exact as it is; a GPU is with --deterministic."""
    return nullcontext() if device.type == "cpu" else deterministic(device)


def everything(trainer: Trainer) -> dict[str, Tensor]:
    return {f"{part}/{name}": t for part, tensors in snapshot(trainer.tensors()).items() for name, t in tensors.items()}


def assert_same(left: Trainer, right: Trainer) -> None:
    first, second = everything(left), everything(right)
    assert set(first) == set(second)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert left.counts() == right.counts()


@pytest.mark.parametrize(("micro_batch", "stops"), [(0, (0, 9, 10)), (2, (9,)), (3, (1, 2, 5, 9))])  # 9 steps: 4 epochs
def test_going_on_is_bit_for_bit_the_run_without_a_stop(
    make_trainer: Make, tiny: Config, device: torch.device, micro_batch: int, stops: tuple[int, ...]
) -> None:
    config = with_train(tiny, micro_batch=micro_batch)
    with exact_on(device):
        straight = make_trainer(config, device=device)
        reports = list(straight.steps(10 * BATCH))
        trainer, seen = make_trainer(config, device=device), list[StepReport]()
        for number, stop in enumerate(stops):
            seen += trainer.steps(stop * BATCH)
            # Other weights at first, and batches read ahead by another number of threads.
            other = make_trainer(config, seed=number + 1, ahead=2 * (number % 2), device=device)
            trainer = go_on(trainer, other)
        seen += trainer.steps(10 * BATCH)
    assert seen == reports
    assert_same(straight, trainer)


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_micro_batches_give_the_gradient_of_the_whole_batch(make_trainer: Make, tiny: Config, micro_batch: int) -> None:
    undivided, divided = make_trainer(), make_trainer(with_train(tiny, micro_batch=micro_batch))
    for first, second in zip(undivided.steps(3 * BATCH), divided.steps(3 * BATCH), strict=True):
        assert second.loss == pytest.approx(first.loss, rel=1e-5)
        assert second.grad_norm == pytest.approx(first.grad_norm, rel=1e-4)
        assert torch.allclose(first.losses, second.losses, rtol=1e-4)


def test_micro_batches_hold_each_sample_once_and_one_shape() -> None:
    def part(start: int, num: int, side: int) -> ShapeBatch:
        embeddings = [torch.full((1,), index) for index in range(start, start + num)]
        return ShapeBatch(torch.arange(start, start + num), torch.zeros(num, 3, side, side), embeddings)

    parts = [part(0, 5, 8), part(5, 2, 4)]
    batches = [batch for (batch,) in micro_batches(parts, 2)]
    assert [batch.positions.tolist() for batch in batches] == [[0, 1], [2, 3], [4], [5, 6]]
    assert all(len(batch.text_embeddings) == len(batch.pictures) == len(batch.positions) for batch in batches)
    assert all(
        int(state) == int(p)
        for batch in batches
        for state, p in zip(batch.text_embeddings, batch.positions, strict=True)
    )
    assert micro_batches(parts, 0) == [parts]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError("std::bad_alloc"),
    ],
)
def test_when_memory_runs_out_micro_batches_are_halved(
    make_trainer: Make, device: torch.device, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    straight, trainer = make_trainer(device=device), make_trainer(device=device)
    forward = type(trainer._objective).forward

    def small(self: object, parts: list[ShapeBatch]) -> Tensor:
        if sum(len(part.positions) for part in parts) > 1:
            raise error
        return forward(self, parts)  # type: ignore[arg-type]

    expected = [report.loss for report in straight.steps(3 * BATCH)]
    monkeypatch.setattr(type(trainer._objective), "forward", small)
    assert [report.loss for report in trainer.steps(3 * BATCH)] == pytest.approx(expected, rel=1e-5)
    assert trainer.micro_batch == 1
    assert trainer.num_skipped == 0

    def never(self: object, parts: list[ShapeBatch]) -> Tensor:
        raise error

    monkeypatch.setattr(type(trainer._objective), "forward", never)
    with pytest.raises(ConfigError, match="not enough memory"):
        next(trainer.steps(100))


def test_memory_that_runs_out_in_the_optimizer_ends_training_with_what_to_do(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer()

    def fails(self: object) -> None:
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(type(trainer._optimizers), "step", fails)
    with pytest.raises(ConfigError, match="memory ran out in a step of the optimizer; train a smaller --preset"):
        next(trainer.steps(100))


def test_an_error_that_is_not_about_memory_is_not_tried_again(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer()

    def broken(self: object, parts: list[ShapeBatch]) -> Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(type(trainer._objective), "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        next(trainer.steps(100))


def test_a_generated_picture_is_the_same_after_going_on(make_trainer: Make, device: torch.device) -> None:
    with exact_on(device):
        straight, first = make_trainer(device=device), make_trainer(device=device)
        list(straight.steps(5 * BATCH))
        list(first.steps(2 * BATCH))
        second = go_on(first, make_trainer(seed=1, device=device))
        list(second.steps(5 * BATCH))
    samples = [torch.full((2, 4), 0.3).half(), torch.zeros(0, 4).half()]
    pictures = []
    for trainer in (straight, second):
        with trainer.averaged(), torch.no_grad(), exact_on(device):
            cond = trainer.denoiser.condition(samples)
            x, sigma = torch.ones(2, 3, 8, 8, device=device), torch.tensor([3.0, 0.5], device=device)
            pictures.append(trainer.denoiser(x, sigma, cond))
    assert torch.equal(pictures[0], pictures[1])


def test_a_run_of_version_0_1_0_reuses_its_training_copy_and_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 0.1.0 wrote this run, at 20 of 40 images (numbers shortened to three bits), and finished a copy of it.

    final.safetensors has every 32nd of the weights it ended with. Processors differ in the last bits, so they are
    compared to within 1e-5; on the processor that wrote them they are equal.
    """
    with zipfile.ZipFile(GOLDEN / "run-0.1.0-pack-3.zip") as archive:
        archive.extractall(tmp_path)
    final = checkpoint.read_tensors(tmp_path / "final.safetensors")
    # A zip file keeps no time of creation, so the cache was stamped with sizes alone.
    for module in (files, walk):
        monkeypatch.setattr(module, "stat_fingerprint", lambda info: b"%d" % info.st_size)
    copy = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "pack").rglob("*")}
    train(TrainRequest(data=tmp_path / "pictures", out=tmp_path / "run", device="cpu"), Console(file=io.StringIO()))
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "pack").rglob("*")}
    assert {path: time for path, time in kept.items() if not path.name.startswith(".lock")} == copy
    newest = checkpoint.latest(tmp_path / "run")
    assert newest is not None
    assert newest.name == "step-00000010"
    parts = checkpoint.load_parts(newest, ["weights", "model"])
    ends = {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    assert set(ends) == set(final)
    for name, tensor in ends.items():
        assert torch.allclose(tensor.flatten()[::32], final[name], rtol=0, atol=1e-5), name


@pytest.mark.parametrize("name", ["run-format-1"])
def test_runs_of_every_released_format_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with zipfile.ZipFile(GOLDEN / f"{name}.zip") as archive:
        archive.extractall(tmp_path)
    run = tmp_path / "run"
    assert Pipeline.load(run).generate("shade number 2", seeds=1)[0].size == (8, 8)
    out = io.StringIO()
    train(TrainRequest(data=tmp_path / "pictures", out=run, device="cpu"), Console(file=out, width=200))
    assert "resuming at 12 of 40 images" in out.getvalue()
    newest = checkpoint.latest(run)
    assert newest is not None
    assert newest.name == "step-00000010"
    assert set(checkpoint.part_names(newest)) == {"model", "model_long", "weights", "optimizer"}
    shutil.rmtree(tmp_path / "pictures")
    assert Pipeline.load(run).generate("shade number 2", seeds=1)[0].size == (8, 8)
