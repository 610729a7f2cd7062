"""The images API of OpenAI, as its own clients behave: generations, edits, streaming with true previews, models."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from PIL import Image
from starlette.datastructures import UploadFile

from tintype.pipeline.image_file import encode
from tintype.pipeline.receipt import Receipt
from tintype.serving.api.dispatcher import SSE_HEADERS, Desk, fault_of
from tintype.serving.api.errors import Fault, invalid
from tintype.serving.api.images import guess_of, read, read_mask
from tintype.serving.api.schemas import ImagesAsk, from_form
from tintype.serving.engine.job import Making, Watch, Work
from tintype.view.contact_sheet import Frame

QUALITY, BACKGROUND = "high", "opaque"  # there is one quality, and no transparency
MAX_PARTS = 40  # of a form
TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


def router(desk: Desk) -> APIRouter:
    """The routes under /v1."""
    routes = APIRouter(prefix="/v1", tags=["OpenAI"])

    @routes.post("/images/generations")
    async def generations(ask: ImagesAsk, request: Request) -> Response:
        """Make pictures. With `stream`, previews of the model's guess come as `image_generation.partial_image`."""
        return await _make(desk, request, ask, "image_generation")

    @routes.post("/images/edits", openapi_extra=_EDITS)
    async def edits(request: Request) -> Response:
        """Start from a picture with noise on it; with a mask, paint only where it is transparent (or white)."""
        fields, files = await _form(request)
        ask = from_form(fields)
        if "image" not in files:
            raise invalid("image is missing", "image", "missing_required_parameter")
        init = await asyncio.to_thread(read, files["image"], "image")
        mask = await asyncio.to_thread(read_mask, files["mask"], "mask") if "mask" in files else None
        if mask is not None and mask.size != init.size:
            raise invalid("mask must have the size of image", "mask", "invalid_image")
        return await _make(desk, request, ask, "image_edit", init, mask)

    @routes.post("/images/variations", include_in_schema=False)
    async def variations(request: Request) -> Response:
        raise Fault(501, "use /v1/images/edits with a strength instead", "not_implemented", final=True)

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        """The models that can be named in requests."""
        return {"object": "list", "data": [_model(desk, name) for name in desk.catalog.pipelines]}

    @routes.get("/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """One model."""
        if name not in desk.catalog.pipelines:
            raise Fault(404, "there is no such model here", "model_not_found", "model")
        return _model(desk, name)

    return routes


def _model(desk: Desk, name: str) -> dict[str, Any]:
    pipeline = desk.catalog.pipelines[name]
    resolution = pipeline.config.net.resolution
    return {
        "id": name,
        "object": "model",
        "created": desk.started,
        "owned_by": "tintype",
        "size": f"{resolution}x{resolution}",
        "sha256": pipeline.model_hash,
    }


async def _make(
    desk: Desk,
    request: Request,
    ask: ImagesAsk,
    prefix: str,
    init: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> Response:
    if ask.response_format == "url":
        raise invalid("response_format must be b64_json: pictures are not kept here", "response_format")
    making = await desk.making(ask, init, mask)
    mark = await desk.mark(request, ask, init, mask)
    watch = _watch(ask) if ask.stream else None
    work = desk.open(making, request, seconds=_patience(desk, request), watch=watch, mark=mark)
    making = work.task if isinstance(work.task, Making) else making  # of a request sent again: what the first one was
    if ask.stream:
        return StreamingResponse(_stream(desk, work, ask, prefix), media_type="text/event-stream", headers=SSE_HEADERS)
    try:
        await _finish_or_go(work, request)
    finally:
        desk.leave(work)
    if work.status != "done":
        raise fault_of(work)
    body = await asyncio.to_thread(_answer, work, making, ask)
    headers = {} if not work.num_cut else {"x-tintype-warning": _cut(work)}
    return Response(body, media_type="application/json", headers=headers)


async def _stream(desk: Desk, work: Work, ask: ImagesAsk, prefix: str) -> AsyncIterator[str]:
    making = work.task
    assert isinstance(making, Making)
    shown, num_partial = -1, 0
    try:
        yield ": on its way\n\n"
        while True:
            seen, is_open = work.version, work.open
            frames = work.frames  # as it is now: the engine puts a newer one in its place
            newest = max(frames, default=-1)
            if newest > shown and newest + 1 < work.total:
                shown = newest
                for row in range(len(making.request)):
                    extra = {
                        "partial_image_index": num_partial,
                        "image_index": row,
                        "step": newest,
                        "total_steps": work.total,
                    }
                    yield await asyncio.to_thread(_partial, prefix, extra, frames[newest], row, ask, making)
                    num_partial += 1
            if not is_open:
                break
            if not await work.wait(seen, desk.settings.keep_alive):
                yield ": still at it\n\n"
        if work.status != "done":
            yield f"data: {json.dumps(fault_of(work).body())}\n\n"
            return
        for row, picture in enumerate(await asyncio.to_thread(_pictures, work, making, ask)):
            usage = {"image_index": row, "usage": _usage(work, making, 1)}
            yield await asyncio.to_thread(_event, f"{prefix}.completed", {**picture, **usage, **_common(ask, making)})
    finally:
        desk.leave(work)  # whoever was reading is gone, or it is over anyway


async def _finish_or_go(work: Work, request: Request) -> None:
    """Until the work is over. Raises Fault if the client goes away before."""
    finished = asyncio.create_task(work.finished())
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((finished, gone), return_when=asyncio.FIRST_COMPLETED)
        if work.open:
            raise Fault(499, "the client has gone", "client_closed_request")
    finally:
        finished.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _patience(desk: Desk, request: Request) -> float:
    """How long the client will wait, where it says so; never longer than the server's deadline."""
    try:
        said = float(request.headers.get("x-stainless-read-timeout", ""))
    except ValueError:
        said = desk.settings.deadline
    return max(1.0, min(desk.settings.deadline, said)) if said == said else desk.settings.deadline


def _watch(ask: ImagesAsk) -> Watch | None:
    """Previews after every so many steps, or so many of them evenly spread."""
    every, num = ask.preview_every, ask.partial_images or 0
    if every is not None:
        return lambda total: range(every - 1, total - 1, every)
    return (lambda total: {round((i + 1) * total / (num + 1)) - 1 for i in range(min(num, total - 1))}) if num else None


def _answer(work: Work, making: Making, ask: ImagesAsk) -> bytes:
    """The whole answer, a picture at a time: the event loop would wait for one call that writes them all."""
    rest = {"created": int(time.time()), **_common(ask, making), "usage": _usage(work, making)}
    if work.num_cut:
        rest["warning"] = _cut(work)
    pictures = ",".join(json.dumps(picture) for picture in _pictures(work, making, ask))
    return f'{{"data":[{pictures}],{json.dumps(rest)[1:]}'.encode()


def _pictures(work: Work, making: Making, ask: ImagesAsk) -> list[dict[str, Any]]:
    assert work.result is not None
    pictures = making.pipeline.pictures(work.result)
    receipts = making.pipeline.receipts(making.request)
    return [
        {"b64_json": _b64(picture, receipt, ask), "seed": receipt.seed, "index": receipt.index}
        for picture, receipt in zip(pictures, receipts, strict=True)
    ]


def _partial(prefix: str, extra: dict[str, Any], frame: Frame, row: int, ask: ImagesAsk, making: Making) -> str:
    receipt = making.pipeline.receipts(making.request)[row]
    guess = {"b64_json": _b64(guess_of(frame, row), receipt, ask), "seed": receipt.seed, "index": receipt.index}
    return _event(f"{prefix}.partial_image", {**guess, **extra, **_common(ask, making)})


def _b64(picture: Image.Image, receipt: Receipt, ask: ImagesAsk) -> str:
    quality = 100 if ask.output_compression is None else ask.output_compression
    return base64.b64encode(encode(picture, receipt, f".{ask.output_format or 'png'}", quality)).decode()


def _common(ask: ImagesAsk, making: Making) -> dict[str, Any]:
    size = f"{making.request.width}x{making.request.height}"
    return {"background": BACKGROUND, "output_format": ask.output_format or "png", "quality": QUALITY, "size": size}


def _usage(work: Work, making: Making, num: int | None = None) -> dict[str, Any]:
    """Tokens as the network counts them: of the caption, and one for each patch of each picture."""
    patch = making.pipeline.config.net.patch
    per_picture = (making.request.width // patch) * (making.request.height // patch)
    text = work.text_tokens // len(making.request)
    shown = per_picture if making.request.init_image is not None else 0
    output = per_picture * (num or len(making.request))
    return {
        "input_tokens": text + shown,
        "output_tokens": output,
        "total_tokens": text + shown + output,
        "input_tokens_details": {"text_tokens": text, "image_tokens": shown},
    }


def _cut(work: Work) -> str:
    limit = work.task.pipeline.config.text.max_tokens
    return f"the text is longer than the {limit} tokens this model reads; its end was not used"


def _event(kind: str, members: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, 'created_at': int(time.time()), **members})}\n\n"


async def _form(request: Request) -> tuple[dict[str, str], dict[str, bytes]]:
    """Fields and files of a form; one picture may come as `image` or as `image[]`."""
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    async with request.form(max_files=4, max_fields=MAX_PARTS, max_part_size=64 * 1024) as form:
        for name, value in form.multi_items():
            name = name.removesuffix("[]")
            if not isinstance(value, UploadFile):
                fields[name] = value
            elif name in files:
                raise invalid(f"only one {name} can be used", name)
            else:
                files[name] = await value.read()
    for name in ("image", "mask"):
        if name in fields:
            raise invalid(f"{name} must be a file", name, "invalid_image")
    return fields, files


_EDITS = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image", "prompt"],
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        "mask": {"type": "string", "format": "binary"},
                        "prompt": {"type": "string"},
                        "n": {"type": "integer"},
                        "size": {"type": "string"},
                        "seed": {"type": "integer"},
                        "strength": {"type": "number"},
                        "stream": {"type": "boolean"},
                    },
                }
            }
        },
    }
}
