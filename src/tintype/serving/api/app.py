"""The application: all routes behind the guard, and the engine, which starts and stops with them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import anyio.lowlevel
from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from tintype._version import __version__
from tintype.serving import logs
from tintype.serving.api import denoise, exports, inspection, jobs, openai, runs, tokens
from tintype.serving.api.a1111 import routes as a1111
from tintype.serving.api.dispatcher import Dispatcher
from tintype.serving.api.errors import ApiError, from_validation
from tintype.serving.api.guard import RequestGuard
from tintype.serving.api.keys import Keys
from tintype.serving.catalog import Catalog
from tintype.serving.engine.engine import Engine
from tintype.serving.engine.metrics import Metrics
from tintype.serving.exporter import Exporter
from tintype.serving.extension import Extension
from tintype.serving.settings import Settings
from tintype.serving.writers import Writers

REFRESH_SECONDS = 10.0  # between searches for newer checkpoints, other models and keys
SCRIPTS = (
    *("theme", "app", "api", "plot", "training"),
    *("develop", "state", "stage", "generate", "edit", "gallery", "give", "paint", "size", "run-view"),
    *("how", "attempt", "subject", "pixels", "network", "plane", "plane-view", "learner", "tokens"),
    *("how-static", "how-noise", "how-layers", "how-gradient", "how-caption", "how-ways", "how-yours"),
)
STUDIO_SCRIPTS = (
    *("studio", "studio-state", "studio-data", "studio-send", "studio-verdict", "studio-captions", "studio-rows"),
    *("studio-cell", "studio-grid", "studio-plan", "studio-train", "studio-models", "studio-suggest"),
)
PAGE = {
    "index.html": "text/html; charset=utf-8",
    **dict.fromkeys(("style.css", "how.css", "studio.css"), "text/css; charset=utf-8"),
    "icon.svg": "image/svg+xml",
    **{f"{name}.js": "text/javascript; charset=utf-8" for name in (*SCRIPTS, *STUDIO_SCRIPTS)},
}
PARTS = ("how.html", "studio.html")  # of index.html: each takes the place of a comment with its name
SCRIPT_LINKS = b"<!-- scripts -->"  # another place in index.html
HEARTBEAT_SECONDS = 0.05
PRUNE_SECONDS = 2.0  # between searches for finished jobs beyond the limits
RESTART_SECONDS = 1.0  # after an error of a background task
QUEUE_COST = 8  # of the waiting requests, in requests of the highest cost


def create_app(
    catalog: Catalog,
    settings: Settings,
    refresh_now: asyncio.Event | None = None,
    writers: Writers | None = None,
    extension: Extension | None = None,
) -> tuple[ASGIApp, Engine]:
    """An ASGI application and its engine, which starts and stops with it.

    writers: the token models; None: the shipped ones.
    extension: routes and background work beside the server's own.
    refresh_now: when it is set, keys and models are looked at again at once, and not only every REFRESH_SECONDS.
    """
    metrics = Metrics()
    pipelines = catalog.pipelines.values()
    largest = max((settings.cost_limit(pipeline.config) for pipeline in pipelines), default=1e12)
    engine = Engine(settings, metrics, settings.max_waiting_cost or QUEUE_COST * largest)
    dispatcher = Dispatcher(catalog, engine, settings, metrics)
    exporter = Exporter()
    keys = Keys(settings.api_keys, settings.api_key_file)
    wake = refresh_now or asyncio.Event()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await anyio.lowlevel.checkpoint()  # imports a module now that would block the event loop at the first stream
        engine.start(list(catalog.pipelines.values()))
        background = [
            asyncio.create_task(_supervise("refresh", lambda: _refresh(catalog, keys, wake))),
            asyncio.create_task(_supervise("heartbeat", lambda: _heartbeat(metrics))),
            asyncio.create_task(_supervise("prune", lambda: _prune(dispatcher))),
        ]
        if extension is not None:
            background.append(asyncio.create_task(_supervise("extension", extension.background)))
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, exporter.close(), return_exceptions=True)
            await asyncio.to_thread(engine.stop)

    app = FastAPI(
        title="Tintype",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
    )
    app.include_router(openai.router(dispatcher))
    app.include_router(jobs.router(dispatcher))
    app.include_router(inspection.router(dispatcher))
    app.include_router(denoise.router(dispatcher))
    app.include_router(runs.router(dispatcher))
    app.include_router(tokens.router(dispatcher, writers or Writers()))
    if settings.a1111:
        app.include_router(a1111.router(dispatcher))
    app.include_router(exports.router(dispatcher, exporter))
    if extension is not None:
        app.include_router(extension.router(catalog))
    _add_operation(app, dispatcher)
    _add_page(app, PARTS if extension is not None else PARTS[:1])
    _add_error_handlers(app)
    app.openapi()  # computed once, here, because it takes a while
    return RequestGuard(app, settings, metrics, keys), engine


async def _supervise(name: str, task: Callable[[], Awaitable[None]]) -> None:
    """Run a background task for as long as the server runs: an error is logged, and the task restarts."""
    while True:
        try:
            await task()
        except (asyncio.CancelledError, SystemExit, KeyboardInterrupt):
            raise
        except BaseException:  # a panic of a library, too, which is no Exception
            logs.log.exception("background task failed", extra={"fields": {"task": name}})
        await asyncio.sleep(RESTART_SECONDS)


async def _refresh(catalog: Catalog, keys: Keys, wake: asyncio.Event) -> None:
    """Look for changed keys and models, now and then and whenever `wake` is set."""
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), REFRESH_SECONDS)
        wake.clear()
        await asyncio.to_thread(keys.refresh)
        for name in await asyncio.to_thread(catalog.refresh):
            logs.event("newer checkpoint" if name in catalog.runs else "model changed", model=name)


async def _prune(dispatcher: Dispatcher) -> None:
    """Forget finished jobs although no other arrives."""
    while True:
        await asyncio.sleep(PRUNE_SECONDS)
        dispatcher.prune()


async def _heartbeat(metrics: Metrics) -> None:
    """Measure how late the event loop runs."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + HEARTBEAT_SECONDS
        await asyncio.sleep(HEARTBEAT_SECONDS)
        metrics.lag.observe(max(0.0, loop.time() - due))


def _add_operation(app: FastAPI, dispatcher: Dispatcher) -> None:
    engine = dispatcher.engine

    @app.get("/liveness", tags=["operation"])
    async def liveness() -> dict[str, str]:
        """The process responds."""
        return {"status": "alive"}

    @app.get("/healthz", include_in_schema=False)  # the name that orchestrators look for
    @app.get("/health", tags=["operation"])
    async def health() -> JSONResponse:
        """200 if ready; 503 with the reason while warming up, draining or after a failure."""
        if engine.failure:
            return JSONResponse({"status": "failed", "reason": engine.failure}, 503)
        if not (engine.ready and engine.alive):
            return JSONResponse({"status": "warming up"}, 503, {"Retry-After": "2"})
        return JSONResponse({"status": "ready", "running": engine.num_running, "waiting": engine.num_waiting})

    @app.get("/version", tags=["operation"])
    async def version() -> dict[str, str]:
        """The version of Tintype."""
        return {"version": __version__}

    @app.get("/metrics", tags=["operation"], response_class=Response)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(dispatcher.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_page(app: FastAPI, parts: Sequence[str]) -> None:
    """The files of the page, read once: no path is built from a client's input. parts: of PARTS, those it has."""
    folder = files("tintype.serving") / "page"
    contents = {name: (folder / name).read_bytes() for name in PAGE}
    links = "".join(f'<link rel="modulepreload" href="page/{name}.js">' for name in SCRIPTS if name != "theme")
    index_page = contents["index.html"].replace(SCRIPT_LINKS, links.encode())
    for part in PARTS:
        content = (folder / part).read_bytes() if part in parts else b""
        index_page = index_page.replace(f"<!-- {part} -->".encode(), content)
    contents["index.html"] = index_page

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(contents["index.html"], media_type=PAGE["index.html"], headers={"Cache-Control": "no-cache"})

    @app.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in contents:
            raise ApiError(404, "unknown file", "not_found")
        return Response(contents[name], media_type=PAGE[name], headers={"Cache-Control": "no-cache"})


def _add_error_handlers(app: FastAPI) -> None:
    """Every error in the same form."""

    async def api_error(request: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error.response()

    async def validation(request: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if any(fault["loc"][0] == "path" for fault in error.errors()):  # a malformed number
            return ApiError(404, "not found", "not_found").response()
        return from_validation(error.errors()).response()

    async def http(request: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        messages: dict[int, tuple[str, str]] = {
            404: ("not found", "not_found"),
            405: ("this method is not allowed here", "method_not_allowed"),
        }
        message, code = messages.get(error.status_code, (str(error.detail), "invalid_value"))
        return ApiError(error.status_code, message, code, headers=dict(error.headers or {})).response()

    handlers: dict[Any, Any] = {ApiError: api_error, RequestValidationError: validation, HTTPException: http}
    for error_class, handler in handlers.items():
        app.add_exception_handler(error_class, handler)
