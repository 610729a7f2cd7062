"""The queue in front of the engine: first come, first served, bounded by number, cost and key."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from tintype.serving.engine.job import Job
from tintype.serving.settings import Settings

KEY_SHARE = 0.5  # of the waiting cost, for one key; a key with nothing open always has room by cost


class Rejected(Exception):
    """The engine does not accept a job now.

    Args:
        reason: queue, cost, key, starting, stopping or dead.
        retry_after: seconds after which a retry may succeed.
    """

    def __init__(self, reason: str, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class Queue:
    """Waiting jobs. Not thread-safe: the engine holds its lock.

    Args:
        max_cost: of all waiting jobs together, see `cost_of`; an empty queue takes a job of any cost.
    """

    def __init__(self, settings: Settings, max_cost: float) -> None:
        self._settings = settings
        self._max_cost = max_cost
        self._jobs: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    def put(self, job: Job, running: Sequence[Job], retry_after: float) -> None:
        """Append a job. Raises Rejected."""
        settings = self._settings
        if len(self._jobs) >= settings.max_waiting:
            raise Rejected("queue", f"the queue is full: {len(self._jobs)} requests are waiting", retry_after)
        waiting_cost = sum(other.cost for other in self._jobs)
        num_open = sum(other.owner == job.owner for other in (*self._jobs, *running))
        own_cost = sum(other.cost for other in self._jobs if other.owner == job.owner)
        if settings.api_keys and own_cost and own_cost + job.cost > self._max_cost * KEY_SHARE:
            raise Rejected("key", "this key's waiting requests are as large as it may have; wait for one", retry_after)
        first_of_key = bool(settings.api_keys) and num_open == 0
        if self._jobs and not first_of_key and waiting_cost + job.cost > self._max_cost:
            raise Rejected("cost", "the queue is full: large requests are waiting", retry_after)
        if settings.api_keys and num_open >= settings.max_open_per_key:
            raise Rejected("key", f"this key has {num_open} open requests, the most it may have", retry_after)
        self._jobs.append(job)

    def first(self) -> Job | None:
        """The job that has waited longest; it stays in the queue."""
        return self._jobs[0] if self._jobs else None

    def remove(self, job: Job) -> bool:
        """Take a job out; False if it is not in the queue."""
        if job not in self._jobs:
            return False
        self._jobs.remove(job)
        return True

    def pop_expired(self, now: float) -> list[Job]:
        """Take out the jobs whose deadline has passed."""
        expired = [job for job in self._jobs if job.deadline <= now]
        for job in expired:
            self._jobs.remove(job)
        return expired

    def pop_all(self) -> list[Job]:
        """Take out every job."""
        jobs, self._jobs = list(self._jobs), deque()
        return jobs
