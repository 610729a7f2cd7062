"""A run with a time budget ends in time when the machine changes speed, with the learning rates of its final length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from tintype.config import TrainConfig
from tintype.training.core.optim import lr_at
from tintype.training.setup.budget import LATE, Budget
from tintype.training.setup.plan import Speed, images_within

TRAIN = TrainConfig(batch_size=32, warmup_images=200, sample_minutes=1e9, save_minutes=1e9)
SPEED = Speed(images_per_second=100.0, validation_seconds=2.0, save_seconds=0.1)
HALF_SIZE = replace(TRAIN, half_size=0.9)  # whose last fifth, of full size, takes thrice as long
BOTH = replace(SPEED, full_size_per_second=100.0 / 3)


@dataclass
class Run:
    """A simulated run: `rate` gives images a second at a time."""

    seconds: float
    rate: Callable[[float], float]
    settings: TrainConfig = TRAIN
    speed: Speed = SPEED
    now: float = 0.0
    late: float | None = None

    def train(self) -> tuple[TrainConfig, list[float]]:
        """The final settings, and the learning rate that each step had."""
        train = replace(self.settings, images=images_within(self.seconds, self.speed, self.settings))
        budget = Budget(self.seconds, 0.0, self.speed, self.seconds, lambda: self.now)
        seen, rates = 0, []
        while seen < train.images:
            rates.append(lr_at(seen, train))
            took = train.batch_size / self.rate(self.now)
            if self.speed.full_size_per_second and seen >= train.decay_start:
                took *= self.speed.images_per_second / self.speed.full_size_per_second
            self.now += took
            seen += train.batch_size
            budget.step(train.batch_size, took)
            self.late = budget.late_by(seen, train) or self.late
            if (images := budget.images(seen, train)) is not None:
                train = replace(train, images=images)
        self.now += SPEED.validation_seconds
        return train, rates


@pytest.mark.parametrize(
    "rate",
    [
        lambda now: 100.0,
        lambda now: 20.0,  # measured while the machine was free
        lambda now: 400.0,  # measured while it was busy
        lambda now: 5.0 if now < 30 else 100.0,
        lambda now: 100.0 if now < 200 else 60.0,
    ],
)
@pytest.mark.parametrize(("settings", "speed"), [(TRAIN, SPEED), (HALF_SIZE, BOTH)])
def test_the_run_ends_in_time_and_is_the_run_of_its_final_length(
    rate: Callable[[float], float], settings: TrainConfig, speed: Speed
) -> None:
    run = Run(600.0, rate, settings, speed)
    train, rates = run.train()
    assert 0.85 * 600 < run.now < 1.15 * 600
    assert rates == [lr_at(step * train.batch_size, train) for step in range(len(rates))]  # exactly


def test_a_machine_as_fast_as_measured_keeps_the_plan() -> None:
    run = Run(600.0, lambda now: 100.0)
    train, _ = run.train()
    assert train.images == images_within(600.0, SPEED, TRAIN)
    assert run.late is None


def test_when_the_learning_rate_already_falls_a_slow_machine_is_a_warning() -> None:
    run = Run(600.0, lambda now: 100.0 if now < 500 else 10.0)
    train, rates = run.train()
    assert run.late is not None
    assert run.late > (LATE - 1) * 600
    assert rates == [lr_at(step * train.batch_size, train) for step in range(len(rates))]


def test_a_validation_that_takes_as_long_as_training_is_left_out_before_the_end() -> None:
    now = 100.0
    budget = Budget(600.0, 0.0, SPEED, 600.0, lambda: now)
    assert budget.allows_validation()
    budget.validation(60.0, 30.0)
    assert not budget.allows_validation()
    now = 590.0
    assert not budget.allows_validation()
