"""Jobs as clients of /api/jobs see them: the store that finds them by id, their state as JSON, and its stream."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from tintype.pipeline.receipt import Receipt
from tintype.serving.api.dispatcher import Dispatcher, job_error, warning
from tintype.serving.api.errors import ApiError
from tintype.serving.api.images import strip_png
from tintype.serving.engine.job import GenerateTask, Job

MAX_KEPT_BYTES = 256 * 2**20  # of the frames and results of all finished jobs
POLL_SECONDS = 1.0  # between updates of a waiting job's position


class JobStore:
    """The jobs of /api/jobs by id: all open ones, and the latest of the finished ones."""

    def __init__(self, max_finished: int, max_age: float) -> None:
        self._max_finished = max_finished
        self._max_age = max_age  # seconds
        self._jobs: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        """Add a job, and delete the oldest finished ones beyond the limits."""
        self._jobs[job.id] = job
        finished = [other for other in self._jobs.values() if not other.open]
        num_bytes = sum(other.num_bytes for other in finished)
        for index, other in enumerate(finished):
            expired = other.ended + self._max_age < time.monotonic()
            if expired or len(finished) - index > self._max_finished or num_bytes > MAX_KEPT_BYTES:
                del self._jobs[other.id]
                num_bytes -= other.num_bytes

    def get(self, job_id: str, owner: str) -> Job:
        """Raises ApiError: 404 for an unknown or deleted job, 403 for a job of another key."""
        job = self._jobs.get(job_id)
        if job is None:
            raise ApiError(404, "unknown job: finished jobs are deleted after a while", "job_not_found")
        if job.owner != owner:
            raise ApiError(403, "this job belongs to another key", "not_yours")
        return job


def job_state(dispatcher: Dispatcher, job: Job, prefix: str = "") -> str:
    """The state of a job as JSON. Encoding its pictures takes a while: not for the event loop.

    prefix: of the paths of its pictures, behind a proxy.
    """
    status = job.status  # read once: the engine, which sets it last, continues meanwhile
    state: dict[str, Any] = {
        "id": job.id,
        "status": status,
        "position": dispatcher.engine.position(job),
        "total": job.total,
        "step": None,
        "seconds_left": None,
    }
    frames = job.frames
    newest = max(frames, default=None)
    if newest is not None:
        frame = frames[newest]
        data = "data:image/png;base64," + base64.b64encode(strip_png(frame)).decode()
        state["step"] = {"index": newest, "sigma": frame.sigma, "strip": data, "rows": len(frame.guess)}
    if status in ("waiting", "running"):
        seconds = dispatcher.engine.seconds_left(job)
        state["seconds_left"] = None if seconds is None else round(seconds, 2)
    if text := warning(job):
        state["warning"] = text
    if status == "done" and isinstance(job.task, GenerateTask):
        receipts = job.task.pipeline.receipts(job.task.request)
        state["seconds"] = round(job.ended - job.started, 3)
        state["sigmas"] = {index: frame.sigma for index, frame in job.frames.items()}
        state["pictures"] = [
            {"url": f"{prefix}/api/jobs/{job.id}/pictures/{row}.png", "receipt": receipt_json(receipt)}
            for row, receipt in enumerate(receipts)
        ]
    elif status in ("failed", "cancelled"):
        state |= job_error(job).body()
    return json.dumps(state)


async def follow(dispatcher: Dispatcher, job: Job, version: int, prefix: str = "") -> AsyncIterator[str]:
    """The states of a job after `version` as server-sent events, to its end; a slow reader skips states."""
    yield "retry: 1000\n\n"
    quiet_since = time.monotonic()
    while True:
        newest, is_open = job.version, job.open
        if newest != version or job.status == "waiting":
            yield f"id: {newest}\nevent: state\ndata: {await asyncio.to_thread(job_state, dispatcher, job, prefix)}\n\n"
            version, quiet_since = newest, time.monotonic()
        elif time.monotonic() - quiet_since >= dispatcher.settings.keep_alive:
            yield ": running\n\n"
            quiet_since = time.monotonic()
        if not is_open:
            return
        await job.wait(version, POLL_SECONDS)


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """A receipt for JavaScript, whose integers end at 2^53: the seed is a string."""
    return {**dataclasses.asdict(receipt), "seed": str(receipt.seed)}
