"""The batch size for a time: large where launches take the time, small where pictures do, larger for longer runs."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tintype.config import PRESETS, Config
from tintype.training.core.trainer import Trainer
from tintype.training.parallel.world import World
from tintype.training.setup import auto_batch, auto_preset, choices
from tintype.training.setup.auto_batch import CRITICAL, StepTime, best_batch_size, lr_for
from tintype.training.setup.request import TrainRequest

CPU = torch.device("cpu")
QUIET = Console(file=io.StringIO())
# Steps on an H200, from the images a second that were measured in batches of 128 and 512 (32 px), and 512 (128 px).
LAUNCH_BOUND, COMPUTE_BOUND = StepTime(0.08, 5e-5), StepTime(0.05, 1.5e-3)


def test_a_line_goes_through_two_batch_sizes() -> None:
    step = StepTime.through((32, 0.05), (256, 0.162))
    assert step.per_image == pytest.approx(5e-4)
    assert step.seconds(32) == pytest.approx(0.05)
    assert step.seconds(256) == pytest.approx(0.162)
    assert StepTime.through((32, 0.05), (256, 0.04)).per_image > 0  # noise of the clock
    assert str(step) == "a step takes 34.0 ms, and 0.500 ms a picture"


def test_ten_minutes_get_steps_enough_and_small_networks_large_batches() -> None:
    assert best_batch_size(600, LAUNCH_BOUND, 512) == 512
    size = best_batch_size(200, COMPUTE_BOUND, 512)
    assert size <= 128
    assert 200 / COMPUTE_BOUND.seconds(size) > 700  # where 512 would have made 244


def test_without_overhead_the_smallest_is_best_and_without_images_the_largest() -> None:
    assert best_batch_size(600, StepTime(0.0, 1e-3), 512) == 16
    assert best_batch_size(600, StepTime(0.1, 1e-9), 512) == 512
    assert best_batch_size(600, StepTime(0.0, 1e-3), 512, smallest=24) == 32
    assert best_batch_size(600, StepTime(0.0, 1e-3), 8) == 8


steps = st.builds(StepTime, st.floats(1e-4, 10), st.floats(1e-7, 1))


@settings(max_examples=30)
@given(st.floats(1, 1e6), steps, st.integers(16, 2048))
def test_the_choice_is_near_the_optimum_of_the_formula(seconds: float, step: StepTime, largest: int) -> None:
    size = best_batch_size(seconds, step, largest)
    assert 16 <= size <= largest
    assert size == largest or size & (size - 1) == 0

    def learned(batch: float) -> float:
        images = seconds / (step.overhead + batch * step.per_image) * batch
        return images / (batch + CRITICAL * math.sqrt(images))

    best = max(learned(16 * (largest / 16) ** (k / 50)) for k in range(51))
    assert learned(size) >= 0.85 * best


@settings(max_examples=30)
@given(st.floats(10, 1e5), steps)
def test_longer_runs_never_get_smaller_batches(seconds: float, step: StepTime) -> None:
    sizes = [best_batch_size(seconds * factor, step, 512) for factor in (1, 4, 64)]
    assert sizes == sorted(sizes)


def test_the_rate_grows_with_the_root_of_the_batch() -> None:
    small = PRESETS["small"]()
    assert lr_for(small, 512) == small.train.lr
    assert lr_for(small, 128) == small.train.lr / 2
    assert lr_for(small, 64) == 7.1e-4


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainRequest:
    monkeypatch.setattr(choices, "measure_steps", lambda config, device, *, bf16: COMPUTE_BOUND)
    monkeypatch.setattr(choices, "bf16_is_faster", lambda device: False)
    return TrainRequest(data=tmp_path, out=tmp_path / "run", minutes=3.0, preset="base", resolution=128)


def test_a_run_with_a_time_gets_its_batch_and_rate(request_: TrainRequest) -> None:
    chosen = choices.with_batch_size(request_, CPU, World(), QUIET)
    assert chosen.batch_size is not None
    assert chosen.batch_size <= 128
    assert chosen.lr == lr_for(Config.from_preset("base", 128), chosen.batch_size)
    assert choices.with_batch_size(replace(request_, lr=1e-3), CPU, World(), QUIET).lr == 1e-3


def test_a_preset_with_small_batches_gets_larger_ones_on_a_gpu_that_waits_for_launches(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "has_tf32", lambda device: False)
    monkeypatch.setattr(choices, "measure_steps", lambda config, device, *, bf16: LAUNCH_BOUND)
    chosen = choices.with_batch_size(replace(request_, preset="nano"), torch.device("cuda"), World(), QUIET)
    assert (chosen.batch_size, chosen.lr) == (128, 2.8e-3)


@pytest.mark.parametrize(
    "given_",
    [
        {"batch_size": 512},
        {"minutes": None, "images": 1000},
        {"from_model": "shapes", "preset": None},
        {"preset": "nano"},
        {"resume": "elsewhere"},
    ],
    ids=lambda given_: next(iter(given_)),
)
def test_whatever_is_given_or_stored_stays(request_: TrainRequest, given_: dict[str, object]) -> None:
    asked = replace(request_, **given_)
    assert choices.with_batch_size(asked, CPU, World(), QUIET) == asked


def test_a_stored_run_keeps_its_batch(request_: TrainRequest) -> None:
    request_.out.mkdir()
    (request_.out / "config.json").write_text(json.dumps({}))
    assert choices.with_batch_size(request_, CPU, World(), QUIET) == request_


@pytest.mark.slow
def test_steps_of_two_sizes_are_timed(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_batch, "_SECONDS", 0.01)
    step = auto_batch.measure_steps(tiny, CPU, bf16=False)
    assert step.overhead >= 0
    assert step.per_image > 0


def test_precisions_are_compared_in_the_batch_of_the_run_on_a_gpu(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    class Steps:
        def __init__(self, denoiser: object, data: object, config: Config, *args: object, bf16: bool) -> None:
            sizes.append(config.train.batch_size)

        def steps(self, until: int) -> list[int]:
            return iter(range(10**9))  # type: ignore[return-value]

    monkeypatch.setattr(auto_preset, "Trainer", Steps)
    monkeypatch.setattr(auto_preset, "_SECONDS", 0.0)
    small = PRESETS["small"](8)
    for device in (torch.device("cuda"), CPU):
        auto_preset.bf16_steps_are_faster(small, device, lambda config: make_trainer().denoiser)
    assert sizes == [512, 512, 16, 16]
