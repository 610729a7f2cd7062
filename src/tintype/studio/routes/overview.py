"""Routes of the studio as a whole: the link that opens it, the overview, tasks and the trash."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from fastapi.responses import RedirectResponse, Response

from tintype.serving.api.errors import ApiError
from tintype.studio import trash
from tintype.studio.routes.bodies import Empty
from tintype.studio.settings import ADVANCED, QUALITIES, SIZES, TIMES
from tintype.studio.studio import Studio
from tintype.studio.tasks import Task


def entrance(studio: Studio) -> APIRouter:
    """The routes that need no token: the link with the token, and whether there is a studio."""
    routes = APIRouter(prefix="/studio", include_in_schema=False)

    @routes.get("")
    async def enter(request: HttpRequest, token: str = "") -> Response:
        """Take the token of the link into a cookie, and show the page without it in its address."""
        studio.access.require_own_page(request)
        if not studio.access.is_token(token):
            raise ApiError(403, "this is not the link that the command printed", "invalid_token")
        response = RedirectResponse(f"{request.state.prefix}/#studio", 303)
        response.set_cookie(
            studio.access.cookie,
            studio.access.token,
            httponly=True,
            samesite="strict",
            path=request.state.prefix or "/",
        )
        response.headers["Cache-Control"] = "no-store"
        return response

    @routes.get("/here")
    async def here(request: HttpRequest) -> dict[str, bool]:
        """This server has a studio."""
        studio.access.require_own_page(request)
        return {"studio": True}

    return routes


def router(studio: Studio) -> APIRouter:
    """The routes under /api/studio."""
    routes = APIRouter(prefix="/studio")

    def task_of(number: str) -> Task:
        task = studio.tasks.get(number)
        if task is None:
            raise ApiError(404, "unknown task", "task_not_found")
        return task

    @routes.get("")
    async def overview(run: Annotated[str, Query(max_length=100)] = "") -> dict[str, Any]:
        """Everything at a glance, small enough to be asked for every second; with a run, also its progress."""
        content = await asyncio.to_thread(_overview, studio)
        return {**content, "progress": await asyncio.to_thread(studio.runs.progress, run) if run else None}

    @routes.get("/choices")
    async def choices() -> dict[str, Any]:
        """What a run may be set to."""
        return {
            "times": [{"id": name, "label": label} for name, label in TIMES],
            "qualities": [{"id": name, "images": images} for name, images in QUALITIES.items()],
            "sizes": ["auto", *SIZES],
            "starts": list(studio.starts()),
            "advanced": [setting.json() for setting in ADVANCED.values()],
        }

    @routes.get("/tasks/{number}")
    async def task(number: str) -> dict[str, Any]:
        """A scan, a check or a plan."""
        return task_of(number).json()

    @routes.post("/tasks/{number}/cancel")
    async def cancel(number: str, body: Empty) -> dict[str, Any]:
        """End a task."""
        found = task_of(number)
        await asyncio.to_thread(studio.tasks.cancel, found)
        return found.json()

    @routes.post("/trash/{number}/restore")
    async def restore(number: str, body: Empty) -> dict[str, str]:
        """Put a data set or a run back."""
        return await asyncio.to_thread(studio.restore, number)

    @routes.delete("/trash/{number}", status_code=204)
    async def remove(number: str) -> None:
        """Delete for good."""
        await asyncio.to_thread(trash.remove, studio.places, studio.trashed(number))

    return routes


def _overview(studio: Studio) -> dict[str, Any]:
    tasks = studio.tasks.all()
    return {
        "root": studio.places.root.name or "/",
        "studio": studio.places.studio.name,
        "disk_free": trash.free_space(studio.places),
        "busy": studio.queue.is_busy or any(task.is_open for task in tasks),
        "captioners": list(studio.captioners),
        "limits": studio.uploads.limits.json(),
        "datasets": [studio.describe(dataset) for dataset in studio.datasets()],
        "runs": studio.runs.all(),
        "tasks": [task.json() for task in tasks],
        "trash": [item.json() for item in trash.everything(studio.places)],
    }
