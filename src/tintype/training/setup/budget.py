"""The budget of a run with `--time`: how many images fit, measured again while it trains.

The learning rate is constant until its decay at the end begins. Until then the end may move, and the run stays bit for
bit the run of `--images` of its final length (with the same warm-up).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from tintype.config import TrainConfig
from tintype.training.setup.plan import Speed, finish_seconds, images_within

CHECKS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6)  # of the time, and when the decay is about to begin
SMALL_CHANGE = 0.05  # of the images: not worth a new plan
LATE = 1.15  # times the requested time: worth a warning
MAX_VALIDATION = 0.1  # of the elapsed time, for validations before the last


class Budget:
    """The time that a run is planned to fill.

    Args:
        seconds: requested, from the start of the command to the finished model.
        started: clock at the start of the command.
        speed: measured before the first step.
        planned_seconds: expected from the start of the command to the finished model.
        clock: for tests.
    """

    def __init__(
        self,
        seconds: float,
        started: float,
        speed: Speed,
        planned_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self.planned_seconds = planned_seconds
        self.planned_memory = speed.memory_bytes
        self._started = started
        self._speed = speed
        self._clock = clock
        self._images = 0  # since the last check
        self._step_seconds = 0.0
        self._validation_seconds = 0.0
        self._checks = [share for share in CHECKS if share * seconds > self.elapsed()]
        self._warned = False

    def elapsed(self) -> float:
        """Seconds since the start of the command."""
        return self._clock() - self._started

    def step(self, images: int, seconds: float) -> None:
        """Take in a step."""
        self._images += images
        self._step_seconds += seconds

    def validation(self, seconds: float, longer_seconds: float = 0.0) -> None:
        """Take in how long a validation took, and how long the errors of the longer average will take."""
        self._validation_seconds += seconds
        self._speed = replace(self._speed, validation_seconds=seconds, longer_seconds=longer_seconds)

    def allows_validation(self) -> bool:
        """Whether another validation before the end leaves most of the time to training."""
        total = self._validation_seconds + self._speed.validation_seconds
        return total <= MAX_VALIDATION * self.elapsed()

    def images(self, images_seen: int, train: TrainConfig) -> int | None:
        """Another length of the run, in images, if the speed since the last check calls for one now."""
        constant = 1 - train.decay_fraction  # share of the images before the learning rate falls
        is_last = images_seen <= constant * train.images < images_seen + train.batch_size
        is_due = bool(self._checks) and self.elapsed() >= self._checks[0] * self.seconds
        if not (is_due or is_last) or not self._images:
            return None
        self._checks = [share for share in self._checks if share * self.seconds > self.elapsed()]
        rate = self._images / self._step_seconds
        late_rate = self._speed.full_size_per_second * rate / self._speed.images_per_second
        self._speed = replace(self._speed, images_per_second=rate, full_size_per_second=late_rate)
        self._images, self._step_seconds = 0, 0.0
        if images_seen > constant * train.images:
            return None
        fitting = images_within(self.seconds - self.elapsed(), self._speed, train, images_seen)
        shortest = -(-images_seen // train.batch_size) * train.batch_size
        if constant > 0:
            shortest = -(-int(images_seen / constant + 1) // train.batch_size) * train.batch_size
        images = max(fitting, shortest)
        return images if abs(images - train.images) > SMALL_CHANGE * train.images else None

    def late_by(self, images_seen: int, train: TrainConfig) -> float | None:
        """Seconds beyond the requested time that the end is expected at, once, if that is far beyond."""
        if self._warned or self._images < 10 * train.batch_size:
            return None
        rate = self._images / self._step_seconds
        end = self.elapsed() + train.images_left(images_seen) / rate + finish_seconds(self._speed)
        self._warned = end > LATE * self.seconds
        return end - self.seconds if self._warned else None
