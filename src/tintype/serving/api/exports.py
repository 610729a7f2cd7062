"""Exports for the page: a served model as a file to give away."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import FileResponse, JSONResponse

from tintype.errors import ConfigError
from tintype.export.options import FORMS, ExportOptions
from tintype.model import file_names
from tintype.serving.api.dispatcher import Dispatcher
from tintype.serving.api.errors import ApiError, bad_request
from tintype.serving.api.schemas import ExportBody
from tintype.serving.exporter import MAX_WEIGHTS_BYTES, Export, Exporter, forms
from tintype.serving.settings import Settings

BUSY_SECONDS = 5.0
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")  # headers of proxies


def router(dispatcher: Dispatcher, exporter: Exporter) -> APIRouter:
    """The routes under /api/exports."""
    routes = APIRouter(prefix="/api/exports", tags=["exports"])

    def of(number: str, request: HttpRequest) -> Export:
        require_allowed(dispatcher.settings, request)
        export = exporter.get(number, request.state.owner)
        if export is None:
            raise ApiError(404, "unknown export: its file is kept for ten minutes", "export_not_found")
        return export

    @routes.get("")
    async def possible(request: HttpRequest) -> dict[str, Any]:
        """Whether this client may export models, and as what."""
        allowed = is_allowed(dispatcher.settings, request)
        return {"allowed": allowed, "forms": await asyncio.to_thread(forms) if allowed else []}

    @routes.post("", status_code=202)
    async def begin(body: ExportBody, request: HttpRequest) -> JSONResponse:
        """Begin to export a model. One export is made at a time, and its file is kept for ten minutes."""
        require_allowed(dispatcher.settings, request)
        name = dispatcher.pipeline(body.model).name
        try:
            options = ExportOptions(name=(body.name or name).strip(), license=(body.license or "").strip())
        except ConfigError as error:
            message = str(error).partition(", not ")[0]  # which would repeat what the client sent
            raise bad_request(message, message.partition(" ")[0]) from None
        if body.to not in await asyncio.to_thread(forms):
            message = "this server cannot write ONNX graphs; pip install 'tintype[onnx]' where it runs"
            raise bad_request(message if body.to in FORMS else f"to must be one of {', '.join(FORMS)}", "to")
        folder = dispatcher.catalog.folder(name)
        if (await asyncio.to_thread((folder / file_names.WEIGHTS).stat)).st_size > MAX_WEIGHTS_BYTES:
            raise bad_request("the model is too large to export here; use tintype export", "model")
        if exporter.is_busy:
            message = "another export is being made; try again when it is done"
            raise ApiError(429, message, "slow_down", retry_after=BUSY_SECONDS)
        export = exporter.begin(dispatcher.catalog.source(name), body.to, options, request.state.owner)
        location = {"Location": f"{request.state.prefix}/api/exports/{export.id}"}
        return JSONResponse(_state(export), 202, location)

    @routes.get("/{number}")
    async def state(number: str, request: HttpRequest) -> dict[str, Any]:
        """The state of an export: running, done, failed or cancelled."""
        return _state(of(number, request))

    @routes.get("/{number}/file", response_class=FileResponse)
    async def file(number: str, request: HttpRequest) -> FileResponse:
        """The finished file."""
        export = of(number, request)
        if export.file is None:
            raise ApiError(404, "the export is not done", "export_not_found")
        kind = "text/html; charset=utf-8" if export.form == "page" else "application/zip"
        return FileResponse(
            export.file, media_type=kind, filename=export.file.name, headers={"Cache-Control": "no-store"}
        )

    @routes.delete("/{number}")
    async def cancel(number: str, request: HttpRequest) -> dict[str, Any]:
        """End an export, and delete its file."""
        export = of(number, request)
        await exporter.cancel(export)
        return _state(export)

    return routes


def is_allowed(settings: Settings, request: HttpRequest) -> bool:
    """Whether a client may have the weights of models.

    It may if the server was started with --allow-export, or if client and server are on one machine and nothing says
    that the server is for others: no keys, other names, path of a proxy, or headers of one.
    """
    if settings.allow_export:
        return True
    is_for_others = settings.api_keys or settings.allowed_hosts or settings.root_path
    is_forwarded = any(name in request.headers for name in FORWARDED)
    return not is_for_others and not is_forwarded and request.client is not None and _is_local(request.client.host)


def require_allowed(settings: Settings, request: HttpRequest) -> None:
    """Raise ApiError for a client that may not export."""
    if not is_allowed(settings, request):
        message = "models are exported on the server's own machine only; --allow-export allows it to all clients"
        raise ApiError(403, message, "export_not_allowed", final=True)


def _is_local(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _state(export: Export) -> dict[str, Any]:
    return {
        "id": export.id,
        "status": export.status,
        "to": export.form,
        "name": export.options.name,
        "seconds": round(export.seconds, 1),
        "file": export.file.name if export.file is not None else None,
        "bytes": export.size,
        "error": export.error or None,
    }
