"""Jobs as clients of /api/jobs see them: their state as JSON, and its stream."""

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
from tintype.serving.engine.job import GenerateTask, Job, Status

POLL_SECONDS = 1.0  # between updates of a waiting job's position


async def job_state(dispatcher: Dispatcher, job: Job, prefix: str = "") -> str:
    """The state of a job as JSON.

    prefix: of the paths of its pictures, behind a proxy.
    """
    status = job.status  # read once: the engine, which sets it last, continues meanwhile
    newest = max(job.frames, default=None)
    strip = None if newest is None else await dispatcher.encodings.step(job, newest)
    return await asyncio.to_thread(_state_json, dispatcher, job, prefix, status, newest, strip)


def _state_json(
    dispatcher: Dispatcher, job: Job, prefix: str, status: Status, newest: int | None, strip: bytes | None
) -> str:
    """The state as JSON; for large pictures not for the event loop."""
    state: dict[str, Any] = {
        "id": job.id,
        "status": status,
        "position": dispatcher.engine.position(job),
        "total": job.total,
        "step": None,
        "seconds_left": None,
    }
    if newest is not None and strip is not None:
        frame = job.frames[newest]
        data = "data:image/png;base64," + base64.b64encode(strip).decode()
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
            yield f"id: {newest}\nevent: state\ndata: {await job_state(dispatcher, job, prefix)}\n\n"
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
