"""Where requests become works: the model looked up, the settings checked, a place in the queue."""

from __future__ import annotations

import asyncio
import time

from fastapi import Request
from PIL import Image

from tintype.serving import logs
from tintype.serving.api.errors import Fault
from tintype.serving.api.idempotency import GRACE, Repeats, has_key, mark_of
from tintype.serving.api.schemas import Ask, pipeline_of, to_request
from tintype.serving.catalog import Catalog
from tintype.serving.engine.engine import Engine
from tintype.serving.engine.job import Making, Task, Watch, Work
from tintype.serving.engine.metrics import Metrics
from tintype.serving.engine.queue import Refused
from tintype.serving.settings import Settings

SSE_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
_OVERLOADED = ("queue", "cost", "key")


class Desk:
    """What all routes share."""

    def __init__(self, catalog: Catalog, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self.catalog = catalog
        self.engine = engine
        self.settings = settings
        self.metrics = metrics
        self.started = int(time.time())
        self._repeats = Repeats()
        self._leaving: set[asyncio.Task[None]] = set()

    async def making(self, ask: Ask, init: Image.Image | None = None, mask: Image.Image | None = None) -> Making:
        """Check what is asked for. Raises Fault."""
        pipeline = pipeline_of(self.catalog, ask.model)
        if init is None and mask is None:
            return Making(pipeline, to_request(ask, pipeline, self.settings))
        # Scaling a picture to size may take a while: not on the loop.
        return Making(pipeline, await asyncio.to_thread(to_request, ask, pipeline, self.settings, init, mask))

    async def mark(self, request: Request, ask: Ask, *pictures: Image.Image | None) -> bytes:
        """What tells a request from others, if it may be sent again (see `Repeats`); else nothing. Raises Fault."""
        return await asyncio.to_thread(mark_of, ask, *pictures) if has_key(request) else b""

    def open(
        self,
        task: Task,
        request: Request,
        *,
        seconds: float,
        watch: Watch | None = None,
        keep: bool = False,
        mark: bytes = b"",
    ) -> Work:
        """Put a task in the queue, or find the work of the same request sent before (see `Repeats`).

        mark: from `mark`; empty for what is not repeated. Raises Fault: 429 when there is no room, 503 when there is no
        engine.
        """
        known = self._repeats.find(request, mark) if mark else None
        if known is not None:
            return known
        owner = request.state.owner
        work = Work(task, owner=owner, seconds=seconds, watch=watch, keep=keep)
        try:
            self.engine.submit(work)
        except Refused as refused:
            self.metrics.rejected.labels(refused.reason).inc()
            overloaded = refused.reason in _OVERLOADED
            status, code = (429, "slow_down") if overloaded else (503, "server_is_overloaded")
            raise Fault(status, str(refused), code, retry_after=refused.retry_after) from None
        fields: dict[str, object] = {
            "work": work.id,
            "request_id": request.state.request_id,
            "model": task.pipeline.name,
        }
        if isinstance(task, Making):
            asked = task.request
            fields |= {"num": len(asked), "size": f"{asked.width}x{asked.height}", "steps": asked.steps}
            if self.settings.log_prompts:
                fields["prompt"] = asked.captions[0]
        logs.event("submitted", **fields)
        if mark:
            self._repeats.keep(request, mark, work)
        return work

    def leave(self, work: Work) -> None:
        """Nobody reads the answer any more: give the work up, if it is not over, unless somebody may ask again."""
        if not self._repeats.leave(work):
            self.engine.cancel(work)
        elif work.open:
            task = asyncio.create_task(self._leave_later(work))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _leave_later(self, work: Work) -> None:
        await asyncio.sleep(GRACE)
        if self._repeats.alone(work):
            self.engine.cancel(work)


def fault_of(work: Work) -> Fault:
    """Why a work has no pictures."""
    if work.status == "cancelled":
        return Fault(409, "it was cancelled", "cancelled", final=True)
    if work.reason == "deadline":
        return Fault(504, work.message, "timeout", retry_after=10)
    if work.reason == "memory":
        return Fault(503, work.message, "out_of_memory", retry_after=10)
    if work.reason in ("shutdown", "dead"):
        return Fault(503, work.message, "server_is_overloaded", retry_after=10)
    return Fault(500, work.message or "it failed", "generation_failed", final=True)
