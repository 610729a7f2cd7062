"""The OpenAI images API, as OpenAI's clients use it: generations, edits, streams with previews, models."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response, StreamingResponse
from starlette.datastructures import UploadFile

from tintype.config.sizes import size_text
from tintype.pipeline.sizes import parse_enlarge
from tintype.serving.api.disconnect import until_done
from tintype.serving.api.dispatcher import SSE_HEADERS, Dispatcher, job_error, warning, warning_header
from tintype.serving.api.errors import ApiError, bad_request
from tintype.serving.api.images import decode, decode_mask
from tintype.serving.api.schemas import ImagesBody, from_form
from tintype.serving.engine.job import GenerateTask, Job, PreviewSteps

QUALITY, BACKGROUND = "high", "opaque"  # there is one quality, and no transparency
MAX_PARTS = 40  # of a form


def router(dispatcher: Dispatcher) -> APIRouter:
    """The routes under /v1."""
    routes = APIRouter(prefix="/v1", tags=["OpenAI"])

    @routes.post("/images/generations")
    async def generations(body: ImagesBody, request: HttpRequest) -> Response:
        """Generate pictures. With `stream`, the model's guesses arrive as `image_generation.partial_image`."""
        _require_base64(body)
        task = await dispatcher.generate_task(body)
        request_hash = await dispatcher.request_hash(request, body)
        return await _generate(dispatcher, request, body, "image_generation", task, request_hash)

    @routes.post("/images/edits", openapi_extra=_EDITS)
    async def edits(request: HttpRequest) -> Response:
        """Start from an image with noise added; with a mask, repaint only where it is transparent (or white)."""
        body, task, request_hash = await _edit(dispatcher, request)
        return await _generate(dispatcher, request, body, "image_edit", task, request_hash)

    @routes.post("/images/variations", include_in_schema=False)
    async def variations(request: HttpRequest) -> Response:
        raise ApiError(501, "use /v1/images/edits with a strength instead", "not_implemented", final=True)

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        """The models of this server."""
        catalog = dispatcher.catalog
        return {"object": "list", "data": [_model(dispatcher, name) for name in (*catalog.pipelines, *catalog.aliases)]}

    @routes.get("/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """One model."""
        if dispatcher.catalog.get(name) is None:
            raise ApiError(404, "unknown model; GET /v1/models lists them", "model_not_found", "model")
        return _model(dispatcher, name)

    return routes


def _model(dispatcher: Dispatcher, name: str) -> dict[str, Any]:
    pipeline = dispatcher.pipeline(name)
    alias_of = {"root": pipeline.name} if name != pipeline.name else {}
    return {
        "id": name,
        "object": "model",
        "created": dispatcher.started,
        "owned_by": "tintype",
        "size": size_text(pipeline.config.default_size),
        "sha256": pipeline.model_hash,
        **alias_of,
    }


async def _edit(dispatcher: Dispatcher, request: HttpRequest) -> tuple[ImagesBody, GenerateTask, bytes]:
    """The body, the task and the hash of a form. Raises ApiError.

    Nothing keeps its files and images once this returns, since the request may wait for long.
    """
    fields, files = await _read_form(request)
    body = from_form(fields)
    if "image" not in files:
        raise bad_request("image is missing", "image", "missing_required_parameter")
    _require_base64(body)
    async with dispatcher.decoding.place(request.state.client):
        init_image = await dispatcher.decoding.run(decode, files["image"], "image")
        mask = await dispatcher.decoding.run(decode_mask, files["mask"], "mask") if "mask" in files else None
        if mask is not None and mask.size != init_image.size:
            raise bad_request("mask must have the size of image", "mask", "invalid_image")
        task = await dispatcher.generate_task(body, init_image, mask)
    return body, task, await dispatcher.request_hash(request, body, files["image"], files.get("mask", b""))


async def _generate(
    dispatcher: Dispatcher,
    request: HttpRequest,
    body: ImagesBody,
    event: str,
    task: GenerateTask,
    request_hash: bytes,
) -> Response:
    previews = _preview_steps(body) if body.stream else None
    seconds = _client_timeout(dispatcher, request)
    job = dispatcher.submit(task, request, seconds=seconds, previews=previews, request_hash=request_hash)
    if body.stream:
        stream = _stream(dispatcher, job, body, event)
        return StreamingResponse(stream, media_type="text/event-stream", headers=SSE_HEADERS)
    try:
        await until_done(job.finished(), request)
    finally:
        dispatcher.abandon(job)
    if job.status != "done":
        raise job_error(job)
    files = [await dispatcher.encodings.picture(job, row, *_file_format(body)) for row in range(job.task.num)]
    content = await asyncio.to_thread(_response_json, job, body, files)
    return Response(content, media_type="application/json", headers=warning_header(job))


def _require_base64(body: ImagesBody) -> None:
    """Refuse to answer with URLs. Raises ApiError."""
    if body.response_format == "url":
        message = "response_format must be b64_json: this server does not host pictures"
        raise bad_request(message, "response_format")


async def _stream(dispatcher: Dispatcher, job: Job, body: ImagesBody, event: str) -> AsyncIterator[str]:
    sent, num_partial = -1, 0
    try:
        yield ": submitted\n\n"
        while True:
            version, is_open = job.version, job.open
            frames = job.frames  # as it is now: the engine replaces it
            newest = max(frames, default=-1)
            if newest > sent and newest + 1 < job.total:
                sent = newest
                for row in range(job.task.num):
                    file = await dispatcher.encodings.guess(job, newest, frames[newest], row, *_file_format(body))
                    image = {
                        "partial_image_index": num_partial,
                        "image_index": row,
                        "step": newest,
                        "total_steps": job.total,
                        **_common(body, job),
                    }
                    yield await asyncio.to_thread(_image_event, f"{event}.partial_image", job, row, file, image)
                    num_partial += 1
            if not is_open:
                break
            if not await job.wait(version, dispatcher.settings.keep_alive):
                yield ": running\n\n"
        if job.status != "done":
            yield f"data: {json.dumps(job_error(job).body())}\n\n"
            return
        for row in range(job.task.num):
            file = await dispatcher.encodings.picture(job, row, *_file_format(body))
            image = {"image_index": row, "usage": _usage(job, 1), **_common(body, job), **_warning(job)}
            yield await asyncio.to_thread(_image_event, f"{event}.completed", job, row, file, image)
    finally:
        dispatcher.abandon(job)  # the client has disconnected, or the job has ended


def _client_timeout(dispatcher: Dispatcher, request: HttpRequest) -> float:
    """The client's own timeout, if it sends one, and at most the server's deadline; seconds."""
    deadline = dispatcher.settings.deadline
    try:
        timeout = float(request.headers.get("x-stainless-read-timeout", ""))
    except ValueError:
        return deadline
    return deadline if math.isnan(timeout) else max(1.0, min(deadline, timeout))


def _preview_steps(body: ImagesBody) -> PreviewSteps | None:
    """Previews at a fixed interval (`preview_every`), or a number of them evenly spread (`partial_images`)."""
    every, num = body.preview_every, body.partial_images or 0
    if every is not None:
        return lambda total: range(every - 1, total - 1, every)
    return (lambda total: {round((i + 1) * total / (num + 1)) - 1 for i in range(min(num, total - 1))}) if num else None


def _generate_task(job: Job) -> GenerateTask:
    """The task of a job; for a repeated request, that of the first one, with its random seed."""
    assert isinstance(job.task, GenerateTask)
    return job.task


def _response_json(job: Job, body: ImagesBody, files: list[bytes]) -> bytes:
    """The whole response, written picture by picture: one call that writes them all would block the event loop.

    files: the pictures, encoded.
    """
    rest = {"created": int(time.time()), **_common(body, job), "usage": _usage(job), **_warning(job)}
    images = ",".join(json.dumps(_image(job, row, file)) for row, file in enumerate(files))
    return f'{{"data":[{images}],{json.dumps(rest)[1:]}'.encode()


def _file_format(body: ImagesBody) -> tuple[str, int]:
    """Suffix and quality of the files that a client wants."""
    return f".{body.output_format or 'png'}", 100 if body.output_compression is None else body.output_compression


def _image(job: Job, row: int, file: bytes) -> dict[str, Any]:
    request = _generate_task(job).request
    return {"b64_json": base64.b64encode(file).decode(), "seed": request.seeds[row], "index": request.indices[row]}


def _image_event(name: str, job: Job, row: int, file: bytes, members: dict[str, Any]) -> str:
    """An event with a picture; for large ones not for the event loop."""
    return _event(name, {**_image(job, row, file), **members})


def _common(body: ImagesBody, job: Job) -> dict[str, Any]:
    enlarge = _generate_task(job).request.enlarge
    width, height = parse_enlarge(enlarge) if enlarge else job.task.size
    return {
        "background": BACKGROUND,
        "output_format": body.output_format or "png",
        "quality": QUALITY,
        "size": f"{width}x{height}",
    }


def _warning(job: Job) -> dict[str, str]:
    text = warning(job)
    return {"warning": text} if text else {}


def _usage(job: Job, num: int | None = None) -> dict[str, Any]:
    """Tokens of the network: those of the caption, and one per patch of each picture."""
    task = _generate_task(job)
    patch = task.pipeline.config.net.multiple
    per_image = (task.request.width // patch) * (task.request.height // patch)
    text = job.text_tokens // len(task.request)
    image_input = per_image if task.request.init_image is not None else 0
    output = per_image * (num or len(task.request))
    return {
        "input_tokens": text + image_input,
        "output_tokens": output,
        "total_tokens": text + image_input + output,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image_input},
    }


def _event(name: str, members: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps({'type': name, 'created_at': int(time.time()), **members})}\n\n"


async def _read_form(request: HttpRequest) -> tuple[dict[str, str], dict[str, bytes]]:
    """Fields and files of a form; a single image may be named `image` or `image[]`."""
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    async with request.form(max_files=4, max_fields=MAX_PARTS, max_part_size=64 * 1024) as form:
        for name, value in form.multi_items():
            name = name.removesuffix("[]")
            if not isinstance(value, UploadFile):
                fields[name] = value
            elif name in files:
                raise bad_request(f"only one {name} can be used", name)
            else:
                files[name] = await value.read()
    for name in ("image", "mask"):
        if name in fields:
            raise bad_request(f"{name} must be a file", name, "invalid_image")
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
                        "enlarge": {"type": "boolean"},
                        "seed": {"type": "integer"},
                        "strength": {"type": "number"},
                        "stream": {"type": "boolean"},
                    },
                }
            }
        },
    }
}
