"""What A1111's API remembers of a client: its model, and its open jobs, one of which is the current one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tintype.serving.engine.job import Job


class Clients:
    """Models by key, and open jobs by client. Used on the event loop only.

    A1111 has one model and one current job for everybody; here each client has its own. Without keys all clients
    choose one model together, and a client is an address.
    """

    def __init__(self) -> None:
        self._models: dict[str, str] = {}
        self._jobs: dict[str, list[Job]] = {}
        self._interrupted: set[str] = set()  # ids of open jobs

    def model(self, owner: str) -> str | None:
        """The model that was chosen with a key; None if none was."""
        return self._models.get(owner)

    def choose(self, owner: str, model: str) -> None:
        """Choose the model of the requests with a key that name none."""
        self._models[owner] = model

    @contextmanager
    def open(self, client: str, job: Job) -> Iterator[None]:
        """Count a job as open while the block runs."""
        jobs = self._jobs.setdefault(client, [])
        jobs.append(job)
        try:
            yield
        finally:
            jobs.remove(job)
            self._interrupted.discard(job.id)
            if not jobs:
                self._jobs.pop(client, None)

    def jobs(self, client: str) -> list[Job]:
        """The open jobs of a client: the current one first, then those that run, those that wait, by age."""
        return sorted(self._jobs.get(client, []), key=lambda job: job.status == "waiting")

    def interrupt(self, client: str) -> Job | None:
        """Mark the current job of a client as interrupted; None if it has none. The caller cancels it."""
        job = next((job for job in self.jobs(client) if job.open and job.id not in self._interrupted), None)
        if job is not None:
            self._interrupted.add(job.id)
        return job

    def is_interrupted(self, job: Job) -> bool:
        """Whether the client has interrupted an open job."""
        return job.id in self._interrupted
