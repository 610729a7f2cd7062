"""The application: every route, behind the guard, with the engine's life tied to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import anyio.lowlevel
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from tintype._version import __version__
from tintype.serving import logs
from tintype.serving.api import jobs, openai, runs
from tintype.serving.api.dispatcher import Desk
from tintype.serving.api.errors import Fault, of_validation
from tintype.serving.api.guard import Guard
from tintype.serving.api.schemas import max_cost
from tintype.serving.catalog import Catalog
from tintype.serving.engine.engine import Engine
from tintype.serving.engine.metrics import Metrics
from tintype.serving.settings import Settings

REFRESH_SECONDS = 10.0  # between looks for newer checkpoints
PAGE = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(
        (
            *("theme.js", "app.js", "api.js", "plot.js", "how.js", "training.js"),
            *("develop.js", "state.js", "stage.js", "make.js", "again.js", "gallery.js", "paint.js"),
        ),
        "text/javascript; charset=utf-8",
    ),
}
HEARTBEAT_SECONDS = 0.05
QUEUE = 8  # requests of the largest kind that may wait, by cost


def create_app(catalog: Catalog, settings: Settings) -> tuple[ASGIApp, Engine]:
    """An ASGI application with its engine, which starts and stops with it."""
    metrics = Metrics()
    pipelines = catalog.pipelines.values()
    largest = max((max_cost(settings, pipeline.config) for pipeline in pipelines), default=1e12)
    engine = Engine(settings, metrics, settings.max_waiting_cost or QUEUE * largest)
    desk = Desk(catalog, engine, settings, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await anyio.lowlevel.checkpoint()  # imports here what the first stream would hold up the loop for
        engine.start(list(catalog.pipelines.values()))
        background = [asyncio.create_task(_refresh(catalog)), asyncio.create_task(_heartbeat(metrics))]
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await asyncio.to_thread(engine.stop)

    app = FastAPI(title="Tintype", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(openai.router(desk))
    app.include_router(jobs.router(desk))
    app.include_router(runs.router(desk))
    _operation(app, desk)
    _page(app)
    _errors(app)
    app.openapi()  # worked out once, here: it takes a while
    return Guard(app, settings, metrics), engine


async def _refresh(catalog: Catalog) -> None:
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        for name in await asyncio.to_thread(catalog.refresh):
            logs.event("newer checkpoint", model=name)


async def _heartbeat(metrics: Metrics) -> None:
    """Notice when something holds up the event loop."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + HEARTBEAT_SECONDS
        await asyncio.sleep(HEARTBEAT_SECONDS)
        metrics.lag.observe(max(0.0, loop.time() - due))


def _operation(app: FastAPI, desk: Desk) -> None:
    engine = desk.engine

    @app.get("/liveness", tags=["operation"])
    async def liveness() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @app.get("/health", tags=["operation"])
    async def health() -> JSONResponse:
        """Ready to make pictures: 200; warming up, draining or dead: 503 with the reason."""
        if engine.failure:
            return JSONResponse({"status": "failed", "reason": engine.failure}, 503)
        if not (engine.ready and engine.alive):
            return JSONResponse({"status": "warming up"}, 503, {"Retry-After": "2"})
        return JSONResponse({"status": "ready", "running": engine.num_running, "waiting": engine.num_waiting})

    @app.get("/version", tags=["operation"])
    async def version() -> dict[str, str]:
        """Which Tintype this is."""
        return {"version": __version__}

    @app.get("/metrics", tags=["operation"], response_class=Response)
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(desk.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _page(app: FastAPI) -> None:
    """The files of the page, read once; nothing is looked up by a name that was sent."""
    folder = files("tintype.serving") / "page"
    contents = {name: (folder / name).read_bytes() for name in PAGE}

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(contents["index.html"], media_type=PAGE["index.html"], headers={"Cache-Control": "no-cache"})

    @app.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in contents:
            raise Fault(404, "there is no such file", "not_found")
        return Response(contents[name], media_type=PAGE[name], headers={"Cache-Control": "no-cache"})


def _errors(app: FastAPI) -> None:
    """Every error in one shape."""

    async def fault(request: Request, error: Exception) -> Response:
        assert isinstance(error, Fault)
        return error.response()

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        found = of_validation(error.errors())
        if request.method == "GET":  # a number in the path that is none: there is no such thing
            found = Fault(404, "there is no such thing here", "not_found")
        return found.response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        says: dict[int, tuple[str, str]] = {
            404: ("there is nothing here", "not_found"),
            405: ("this cannot be done here", "method_not_allowed"),
        }
        message, code = says.get(error.status_code, (str(error.detail), "invalid_value"))
        return Fault(error.status_code, message, code, headers=dict(error.headers or {})).response()

    handlers: dict[Any, Any] = {Fault: fault, RequestValidationError: validation, HTTPException: http}
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
