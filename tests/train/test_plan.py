"""A budget of time becomes a number of images that fits in it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tintype.config import TrainConfig
from tintype.errors import ConfigError
from tintype.train import machine, plan
from tintype.train.plan import Speed
from tintype.train.trainer import Trainer

TRAIN = TrainConfig(batch_size=32, save_minutes=5.0, sample_minutes=5.0)


@given(
    seconds=st.floats(1, 1e6),
    speed=st.builds(Speed, st.floats(0.1, 1e5), st.floats(0, 20), st.floats(0, 20)),
)
def test_the_planned_images_fit_the_time_or_are_one_batch(seconds: float, speed: Speed) -> None:
    images = plan.images_within(seconds, speed, TRAIN)
    assert images % 32 == 0
    assert images >= 32
    if images > 32:
        assert plan.expected_seconds(images, speed, TRAIN) <= seconds


def test_pauses_are_counted() -> None:
    free, costly = Speed(10.0, 0.0, 0.0), Speed(10.0, 20.0, 10.0)
    assert plan.images_within(1800, free, TRAIN) == 1800 * 0.97 * 10 // 32 * 32
    assert plan.images_within(1800, costly, TRAIN) == (1800 * 0.97 - 7 * 30) * 10 // 32 * 32


def test_measuring_takes_its_share_of_the_budget_and_at_least_two_steps(
    make_trainer: Callable[..., Trainer],
) -> None:
    trainer = make_trainer()
    sampled = []
    speed = plan.measure(trainer, 1e-9, lambda: sampled.append(1))
    assert trainer.images_seen == 12
    assert sampled == [1]
    assert speed.images_per_second > 0
    assert speed.save_seconds > 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (47, "47 s"), (750, "12 min"), (12_000, "3 h 20 min"), (7200, "2 h 00 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert plan.duration(seconds) == text


def test_bfloat16_is_chosen_only_where_it_is_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    threads = torch.get_num_threads()
    for seconds, expected in ((0.9, False), (1.1, False), (0.3, True)):
        monkeypatch.setattr(machine, "_layer_seconds", lambda device, *, bf16, s=seconds: s if bf16 else 1.0)
        assert machine.bf16_is_faster(cpu) is expected
    assert torch.get_num_threads() == threads
    assert machine.bf16_is_faster(torch.device("mps")) is False


def test_the_measure_itself_runs() -> None:
    assert machine._layer_seconds(torch.device("cpu"), bf16=True) > 0


def test_devices() -> None:
    assert machine.choose_device("cpu") == torch.device("cpu")
    assert machine.choose_device(None).type in ("cpu", "cuda")
    for wrong in ("gpu9", "cuda:99"):
        with pytest.raises(ConfigError, match="device"):
            machine.choose_device(wrong)


def test_keeping_memory_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    machine.keep_memory()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # a libc without mallopt
    machine.keep_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    machine.keep_memory()
