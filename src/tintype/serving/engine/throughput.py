"""How long things will take, by how long they took."""

from __future__ import annotations

from collections.abc import Sequence

from tintype.serving.engine.job import Work

SMOOTHING = 0.9  # of the measured speed, from turn to turn


class Pace:
    """The speed of an engine: pictures, or parts of them, by their cost. Read from any thread."""

    def __init__(self) -> None:
        self._speed = 0.0  # cost a second, see `cost_of`; 0 before anything was measured

    def measure(self, cost: float, seconds: float) -> None:
        """A turn took so many seconds."""
        speed = cost / max(seconds, 1e-6)
        self._speed = SMOOTHING * self._speed + (1 - SMOOTHING) * speed if self._speed else speed

    def clearing(self, running: Sequence[Work]) -> float:
        """Seconds until a place in the queue is free, about."""
        if not self._speed or not running:
            return 1.0
        return min(map(remaining, running)) / self._speed + 0.5

    def seconds_left(self, work: Work | None, running: Sequence[Work], waiting: Sequence[Work]) -> float | None:
        """Until a work is done, or until all are; None before anything was measured."""
        if not self._speed:
            return None
        if work is None:
            return sum(map(remaining, [*running, *waiting])) / self._speed
        own = remaining(work)
        if work in waiting:
            ahead = [*running, *waiting[: waiting.index(work)]]
            return (own + sum(map(remaining, ahead))) / self._speed
        return sum(min(own, remaining(other)) for other in running) / self._speed


def remaining(work: Work) -> float:
    """Cost of the steps still to be made."""
    return work.task.cost * (1 - (work.index + 1) / work.total if work.total else 1.0)
