"""Throughput: the measured speed of the engine, and times estimated from it."""

from __future__ import annotations

from collections.abc import Sequence

from tintype.serving.engine.job import Job

SMOOTHING = 0.9  # weight of the earlier measurements


class Throughput:
    """The engine's speed as a moving average of cost per second (see `cost_of`). Any thread may read it."""

    def __init__(self) -> None:
        self._speed = 0.0  # 0 before the first measurement

    def measure(self, cost: float, seconds: float) -> None:
        """Add the cost and the duration of one network call."""
        speed = cost / max(seconds, 1e-6)
        self._speed = SMOOTHING * self._speed + (1 - SMOOTHING) * speed if self._speed else speed

    def seconds_to_free_place(self, running: Sequence[Job]) -> float:
        """Estimated time until a running job ends and the queue moves."""
        if not self._speed or not running:
            return 1.0
        return min(map(remaining_cost, running)) / self._speed + 0.5

    def seconds_left(self, job: Job | None, running: Sequence[Job], waiting: Sequence[Job]) -> float | None:
        """Estimated time until a job ends, or for `job` None until all end; None before the first measurement."""
        if not self._speed:
            return None
        if job is None:
            return sum(map(remaining_cost, [*running, *waiting])) / self._speed
        cost = remaining_cost(job)
        if job in waiting:
            ahead = [*running, *waiting[: waiting.index(job)]]
            return (cost + sum(map(remaining_cost, ahead))) / self._speed
        return sum(min(cost, remaining_cost(other)) for other in running) / self._speed


def remaining_cost(job: Job) -> float:
    """Cost of a job's remaining steps."""
    return job.cost * (1 - (job.index + 1) / job.total if job.total else 1.0)
