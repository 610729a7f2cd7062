"""Early stopping: a run ends where its held-out error has begun to rise, by the same images however it is cut."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tests.training.conftest import after_step, tiny_preset, write_pictures
from torch import Tensor

from tintype.config import Config, TrainConfig
from tintype.errors import CheckpointError
from tintype.model import checkpoint
from tintype.training.core.trainer import Trainer
from tintype.training.monitor import early_stopping
from tintype.training.monitor.early_stopping import EarlyStopping, images_when_stopped
from tintype.training.monitor.log_rows import read_log
from tintype.training.run import TrainRequest, train, training_steps
from tintype.training.signals import Interruption

LOWEST = 80  # images, where the held-out error of `risen` has its minimum
NUM = 8  # pictures held out


def errors(level: float, spread: float = 0.0) -> Tensor:
    """Errors [N, K] of ln `level`, that differ between pictures and by `spread` from time to time."""
    own = torch.linspace(-1, 1, NUM, dtype=torch.float64)[:, None]
    return (level + own + spread * own.flip(0)).exp().expand(NUM, 5)


@pytest.fixture
def stopping(make_trainer: Callable[..., Trainer]) -> EarlyStopping:
    return EarlyStopping(make_trainer(), torch.arange(NUM), {})


def take(stopping: EarlyStopping, seen: int, found: Tensor) -> bool:
    stopping._trainer.images_seen = seen
    return stopping.take(found)


def test_a_falling_error_never_stops(stopping: EarlyStopping) -> None:
    assert not any(take(stopping, 100 * step, errors(-0.01 * step)) for step in range(1, 50))
    assert stopping.images == 4900


def test_a_rise_stops_once_it_is_large_and_lasts(stopping: EarlyStopping) -> None:
    assert not take(stopping, 1000, errors(-2.0))
    assert not take(stopping, 1001, errors(-1.0))  # soon after: it may fall again
    assert not take(stopping, 2000, errors(-2.0 + early_stopping.RISE / 2))  # a small one
    assert take(stopping, 2000, errors(-2.0 + 2 * early_stopping.RISE))
    assert stopping.images == 1000
    assert stopping.result() == {
        "error": pytest.approx(math.exp(-2.0 + 2 * early_stopping.RISE)),
        "lowest": pytest.approx(math.exp(-2.0)),
        "lowest_images": 1000,
    }


def test_a_rise_of_a_few_pictures_is_none_of_all(stopping: EarlyStopping) -> None:
    take(stopping, 1000, errors(-2.0))
    rise = 2 * early_stopping.RISE
    assert not take(stopping, 2000, errors(-2.0 + rise, spread=0.2))
    assert take(stopping, 2000, errors(-2.0 + 1.1 * early_stopping.LARGE_RISE, spread=0.2))
    assert take(stopping, 2000, errors(-2.0 + rise, spread=0.01))


def test_with_few_held_out_pictures_nothing_can_be_measured(make_trainer: Callable[..., Trainer]) -> None:
    assert not EarlyStopping(make_trainer(), torch.arange(early_stopping.MIN_PICTURES - 1), {}).can_measure
    assert EarlyStopping(make_trainer(), torch.arange(early_stopping.MIN_PICTURES), {}).can_measure


@pytest.mark.parametrize("half_size", [0.0, 0.9])
def test_a_measurement_costs_little_and_none_comes_where_sizes_change(
    make_trainer: Callable[..., Trainer], tiny: Config, half_size: float
) -> None:
    config = replace(tiny, train=replace(tiny.train, half_size=half_size))
    stopping = EarlyStopping(make_trainer(config), torch.arange(NUM), {})
    trainer = stopping._trainer
    trainer.set_images(100_000)
    looks = []
    for trainer.images_seen in range(4, 100_000, 4):
        if stopping.is_due():
            looks.append(trainer.images_seen)
            stopping.take(errors(-1.0 - len(looks)))
    cost = early_stopping.FORWARD_COST * NUM * len(trainer.levels)
    assert cost * len(looks) <= early_stopping.MAX_COST * looks[-1]
    assert len(looks) > 40
    end = 80_000 if half_size else 100_000
    assert looks[-1] < end < 1.06 * looks[-1]


def test_nothing_is_measured_long_before_memorizing_is_expected(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer()
    trainer.set_images(100_000)
    stopping = EarlyStopping(trainer, torch.arange(NUM), {}, forecast=8000)
    due = []
    for trainer.images_seen in (3996, 4000):
        due.append(stopping.is_due())
    assert due == [False, True]


def test_the_state_is_all_there_is(stopping: EarlyStopping) -> None:
    take(stopping, 1000, errors(-2.0))
    state = json.loads(json.dumps(stopping.state()))
    other = EarlyStopping(stopping._trainer, torch.arange(NUM), state)
    assert other.state() == stopping.state()
    for found in (errors(-2.1), errors(-1.9)):
        assert take(stopping, 3000, found) == take(other, 3000, found)
        assert other.state() == stopping.state()
    for damaged in ({"images": "x"}, {"lowest": [[]]}, {"lowest": "abc"}, {"due": None}):
        with pytest.raises(CheckpointError, match="early stopping"):
            EarlyStopping(stopping._trainer, torch.arange(NUM), {**state, **damaged})


@given(
    seen=st.integers(1, 10**7),
    planned=st.integers(1, 10**7),
    batch=st.integers(1, 1000),
    decay=st.floats(0, 0.95),
)
def test_the_rate_begins_to_fall_where_a_run_is_stopped(seen: int, planned: int, batch: int, decay: float) -> None:
    train = TrainConfig(images=planned, batch_size=batch, decay_fraction=decay)
    images = images_when_stopped(seen, train)
    assert images <= planned
    if images < planned:
        assert images == seen
        assert replace(train, images=images, planned_images=planned).decay_start == train.decay_start
    half = replace(train, half_size=0.9)
    images = images_when_stopped(seen, half)
    assert images <= planned
    if images < planned:
        assert seen - 1e-6 * seen <= replace(half, images=images, planned_images=planned).decay_start <= seen + batch


# ---- whole runs


def risen(
    self: Trainer, indices: Tensor | None = None, captions: Sequence[str] = ("true", "shuffled", "empty")
) -> Generator[int, None, dict[str, Tensor]]:
    """In place of errors: lowest after LOWEST images."""
    yield 1
    num = NUM if indices is None else len(indices)
    return {name: errors(abs(math.log(self.images_seen / LOWEST)))[:num] for name in captions}


@pytest.fixture
def request_of(tmp_path: Path, tiny_nano: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainRequest]:
    """A request for 400 images that stops early, on pictures of which about a third is held out."""
    monkeypatch.setattr(Trainer, "measure_noise_errors", risen)
    monkeypatch.setattr(early_stopping, "MAX_COST", 100.0)
    monkeypatch.setattr(early_stopping, "EARLIEST", 0.0)
    write_pictures(tmp_path / "pictures", 24)
    config: Config = tiny_preset()
    config = replace(config, train=replace(config.train, held_out=0.4, images=400, stop_early=True, sample_minutes=1e9))

    def make(out: str, **more: object) -> TrainRequest:
        return TrainRequest(data=tmp_path / "pictures", out=tmp_path / out, config=config, device="cpu", **more)

    return make


def weights_of(run: Path) -> dict[str, Tensor]:
    newest = checkpoint.latest(run)
    assert newest is not None
    parts = checkpoint.load_parts(newest, ["weights", "model", "model_long"])
    return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def assert_same(left: Path, right: Path) -> None:
    first, second = weights_of(left), weights_of(right)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def average_at(request_of: Callable[..., TrainRequest], images: int) -> dict[str, Tensor]:
    """The usual average of a run that does not stop, after so many images."""
    request = request_of("stopless", stop_early=False)
    for report in training_steps(request, Console(quiet=True), Interruption(release=True)):
        if report.images_seen == images:
            break
    newest = checkpoint.latest(request.out)
    assert newest is not None
    return checkpoint.load_parts(newest, ["model"])["model"]


def settings(run: Path) -> TrainConfig:
    return Config.from_json((run / "config.json").read_text()).train


def test_a_run_stops_by_itself_and_hands_over_its_best_average(request_of: Callable[..., TrainRequest]) -> None:
    output = io.StringIO()
    run = train(request_of("run"), Console(file=output, width=1000))
    stopped = settings(run)
    assert LOWEST * early_stopping.PATIENCE <= stopped.images < 1.3 * LOWEST
    assert stopped.planned_images == 400
    assert checkpoint.latest(run) == checkpoint.step_folder(run, stopped.images // stopped.batch_size)
    said = output.getvalue()
    assert f"so it ends at {stopped.images} images instead of 400" in said
    assert f"stopped at {stopped.images} of 400 images" in said
    rows = read_log(run / "log.jsonl")
    assert [row["stopping"] for row in rows if "stopping" in row] == [{"images": stopped.images, "before": 400}]
    assert {row["early_stopping"]["lowest_images"] for row in rows if "early_stopping" in row} >= {LOWEST}
    best, newest = average_at(request_of, LOWEST), weights_of(run)
    assert all(torch.equal(newest[f"model/{name}"], average) for name, average in best.items())
    output.truncate(0)
    train(request_of("run"), Console(file=output, width=1000))  # as any finished run
    assert "nothing to do" in output.getvalue()
    assert "--no-stop trains it on to 400 images" in output.getvalue()
    assert settings(run) == stopped


@pytest.mark.slow
def test_no_stop_goes_on_to_the_planned_end(request_of: Callable[..., TrainRequest]) -> None:
    run = train(request_of("run"), Console(quiet=True))
    train(request_of("run", stop_early=False), Console(quiet=True))
    assert (settings(run).images, settings(run).planned_images) == (400, 0)
    assert checkpoint.latest(run) == checkpoint.step_folder(run, 100)
    whole = train(request_of("whole", stop_early=False), Console(quiet=True))
    assert settings(whole).images == 400


class KilledError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "save_minutes"), [(40, 1e-9), (84, 1e-9), (100, 1e-9), (100, 1e9)])  # stops at 100
def test_a_run_that_is_killed_stops_where_it_would_have(
    request_of: Callable[..., TrainRequest], monkeypatch: pytest.MonkeyPatch, moment: int, save_minutes: float
) -> None:
    straight = train(request_of("straight"), Console(quiet=True))
    request = request_of("run", images=400)

    def kill() -> None:
        raise KilledError

    with monkeypatch.context() as context:
        after_step(context, moment, kill)
        with pytest.raises(KilledError):
            train(replace(request, save_minutes=save_minutes), Console(quiet=True))
    train(replace(request, save_minutes=1e9), Console(quiet=True))
    assert settings(request.out).planned_images == 400
    assert_same(straight, request.out)
