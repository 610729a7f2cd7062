"""Routes of training runs: start, pause, go on, stop, log, delete."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query

from tintype.serving.api.errors import ApiError
from tintype.studio.places import is_id
from tintype.studio.record import log_lines
from tintype.studio.routes.bodies import Empty, Extend, NewRun, Stop
from tintype.studio.studio import Studio


def router(studio: Studio) -> APIRouter:
    """The routes under /api/studio/runs."""
    routes = APIRouter(prefix="/studio/runs")

    def known(name: str) -> str:
        if not is_id(name):
            raise ApiError(404, "unknown run; GET /api/studio lists them", "run_not_found")
        return name

    @routes.post("", status_code=201)
    async def create(body: NewRun) -> dict[str, Any]:
        """Put a run into the queue; it begins at once if none is at work."""
        record = await asyncio.to_thread(studio.train, body.name, studio.dataset(body.dataset), body.settings)
        return await asyncio.to_thread(studio.runs.get, record.name)

    @routes.get("/{name}")
    async def run(name: str) -> dict[str, Any]:
        """A run."""
        return await asyncio.to_thread(studio.runs.get, known(name))

    @routes.post("/{name}/pause")
    async def pause(name: str, body: Empty) -> dict[str, Any]:
        """End the process after a checkpoint."""
        await asyncio.to_thread(studio.queue.pause, known(name))
        return await asyncio.to_thread(studio.runs.get, name)

    @routes.post("/{name}/resume")
    async def resume(name: str, body: Empty) -> dict[str, Any]:
        """Put it into the queue again; it goes on at its last checkpoint."""
        await asyncio.to_thread(studio.queue.resume, known(name))
        return await asyncio.to_thread(studio.runs.get, name)

    @routes.post("/{name}/extend")
    async def extend(name: str, body: Extend) -> dict[str, Any]:
        """Train a finished run further: it goes into the queue again."""
        await asyncio.to_thread(studio.extend, known(name), body.images)
        return await asyncio.to_thread(studio.runs.get, name)

    @routes.post("/{name}/stop")
    async def stop(name: str, body: Stop) -> dict[str, Any]:
        """End it after a checkpoint, or at once."""
        await asyncio.to_thread(lambda: studio.queue.stop(known(name), at_once=body.now))
        return await asyncio.to_thread(studio.runs.get, name)

    @routes.get("/{name}/log")
    async def log(name: str, lines: Annotated[int, Query(ge=1, le=2000)] = 200) -> dict[str, Any]:
        """The last lines that the process printed."""
        return {"lines": await asyncio.to_thread(log_lines, studio.queue.log(known(name)), lines)}

    @routes.delete("/{name}")
    async def delete(name: str) -> dict[str, Any]:
        """Move a run to the trash."""
        return (await asyncio.to_thread(studio.delete_run, known(name))).json()

    return routes
