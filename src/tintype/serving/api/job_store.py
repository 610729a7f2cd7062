"""The job store: jobs by id, within one bound on number, age and bytes for all routes that find a job again."""

from __future__ import annotations

import time

from tintype.serving.api.errors import ApiError
from tintype.serving.engine.job import Job

MAX_KEPT_BYTES = 256 * 2**20  # of the frames, results and input pictures of all finished jobs


class JobStore:
    """All open jobs that a client may ask for again, and the latest of the finished ones. Event loop only.

    Args:
        max_finished: finished jobs that are kept.
        max_age: of a finished job, seconds.
    """

    def __init__(self, max_finished: int, max_age: float) -> None:
        self._max_finished = max_finished
        self._max_age = max_age
        self._jobs: dict[str, Job] = {}
        self._num_bytes: dict[str, int] = {}  # of finished jobs, which no longer change

    def add(self, job: Job) -> None:
        """Add a job, and forget the finished ones beyond the limits."""
        self._jobs[job.id] = job
        self.prune()

    def prune(self) -> None:
        """Forget finished jobs that are too old, and the oldest beyond the limits; the newest may have any size."""
        finished = sorted((job for job in self._jobs.values() if not job.open), key=lambda job: job.ended)
        for job in finished:
            if job.id not in self._num_bytes:
                self._num_bytes[job.id] = job.num_bytes
        num_bytes = sum(self._num_bytes.values())
        for index, job in enumerate(finished):
            num_newer = len(finished) - 1 - index
            expired = job.ended + self._max_age < time.monotonic()
            if expired or num_newer >= self._max_finished or (num_newer and num_bytes > MAX_KEPT_BYTES):
                del self._jobs[job.id]
                num_bytes -= self._num_bytes.pop(job.id)

    def find(self, job_id: str) -> Job | None:
        """A job; None if it is unknown or forgotten."""
        return self._jobs.get(job_id)

    def get(self, job_id: str, owner: str) -> Job:
        """Raises ApiError: 404 for an unknown or deleted job, 403 for a job of another key."""
        job = self._jobs.get(job_id)
        if job is None:
            raise ApiError(404, "unknown job: finished jobs are deleted after a while", "job_not_found")
        if job.owner != owner:
            raise ApiError(403, "this job belongs to another key", "not_yours")
        return job
