"""Routes of the token models: a picture written token by token, a picture as tokens, and the codebook."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import secrets
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response, StreamingResponse
from PIL import Image

from tintype.errors import CheckpointError, ConfigError
from tintype.serving import logs
from tintype.serving.api.dispatcher import SSE_HEADERS, Dispatcher, failure_error, rejection_error
from tintype.serving.api.errors import ApiError, bad_request
from tintype.serving.api.images import decode_base64
from tintype.serving.api.token_schemas import EncodeBody, WriteBody
from tintype.serving.engine.queue import Rejected
from tintype.serving.engine.writing import Writing
from tintype.serving.writers import Writers
from tintype.tokens.write import Switch, WriteRequest, Written
from tintype.tokens.writer import TokenWriter

ALTERNATIVES = 5
CACHE = "private, max-age=3600"


def router(dispatcher: Dispatcher, writers: Writers) -> APIRouter:
    """The routes under /api/tokens."""
    routes = APIRouter(prefix="/api/tokens", tags=["tokens"])

    @routes.get("")
    async def models(request: HttpRequest) -> dict[str, Any]:
        """The token models with their sizes, defaults and captions to try."""
        prefix = request.state.prefix
        return {"models": [_model(await _writer(writers, name), writers, prefix) for name in writers.names]}

    @routes.get("/{model}/codebook.png", response_class=Response)
    async def codebook(model: str) -> Response:
        """All codes of a model in order of their number, 64 patches a row."""
        writer = await _writer(writers, model)
        content = await asyncio.to_thread(_png, writer.codebook_sheet())
        return Response(content, media_type="image/png", headers={"Cache-Control": CACHE})

    @routes.post("/stream", response_class=StreamingResponse)
    async def stream(body: WriteBody, request: HttpRequest) -> StreamingResponse:
        """Write a picture: an event for each token as it is drawn, then the picture."""
        writer = await _writer(writers, body.model)
        seed = secrets.randbelow(2**32) if body.seed is None else body.seed
        writing = Writing(
            writer, _request(body, writer, seed), owner=request.state.owner, seconds=dispatcher.settings.deadline
        )
        try:
            dispatcher.engine.write(writing)
        except Rejected as rejected:
            raise rejection_error(dispatcher.metrics, rejected) from None
        logs.event("submitted", job=writing.id, request_id=request.state.request_id, model=writer.name)
        events = _events(writing, dispatcher.settings.keep_alive)
        return StreamingResponse(events, media_type="text/event-stream", headers=SSE_HEADERS)

    @routes.post("/encode")
    async def encode(body: EncodeBody, request: HttpRequest) -> dict[str, Any]:
        """The tokens of a picture, and what they keep of it."""
        writer = await _writer(writers, body.model)
        async with dispatcher.decoding.place(request.state.client):
            return await dispatcher.decoding.run(_encode, writer, body.image)

    return routes


async def _writer(writers: Writers, name: str | None) -> TokenWriter:
    """A model by name; None is the first. Raises ApiError."""
    names = writers.names
    if not names or (name is not None and name not in names):
        listed = ", ".join(names) or "none"
        raise ApiError(404, f"unknown token model; this server has {listed}", "model_not_found", "model")
    try:
        return await asyncio.to_thread(writers.get, name or names[0])
    except CheckpointError as error:  # its message names places on this machine's disk
        logs.log.error("cannot load a token model", extra={"fields": {"error": str(error)}})
        raise ApiError(500, "this model cannot be loaded; the server's log has the details", "model_damaged") from None


def _model(writer: TokenWriter, writers: Writers, prefix: str) -> dict[str, Any]:
    net, defaults = writer.config.net, writer.config.write
    return {
        "name": writer.name,
        "resolution": net.resolution,
        "patch": net.patch,
        "rows": net.side,
        "columns": net.side,
        "codes": net.codes,
        "temperature": defaults.temperature,
        "top_k": defaults.top_k,
        "guidance": defaults.guidance,
        "examples": writers.examples(writer.name),
        "sha256": writer.model_hash,
        "codebook": f"{prefix}/api/tokens/{writer.name}/codebook.png",
    }


def _request(body: WriteBody, writer: TokenWriter, seed: int) -> WriteRequest:
    """The request of a body. Raises ApiError."""
    if (body.switch_at is None) != (body.switch_prompt is None):
        raise bad_request("switch_at and switch_prompt need each other", "switch_at")
    switch = None
    if body.switch_at is not None and body.switch_prompt is not None:
        switch = Switch(place=body.switch_at, captions=(body.switch_prompt,))
    try:
        return writer.request(
            [body.prompt],
            seeds=[seed],
            indices=[body.index or 0],
            temperature=body.temperature,
            top_k=body.top_k,
            guidance=body.guidance,
            given=[body.tokens] if body.tokens else (),
            switch=switch,
            alternatives=ALTERNATIVES if body.alternatives is None else body.alternatives,
        )
    except ConfigError as error:
        name = str(error).partition(" ")[0]  # messages start with the option's name
        raise bad_request(str(error), name if name in WriteBody.model_fields else None) from None


async def _events(writing: Writing, keep_alive: float) -> AsyncIterator[str]:
    net, request = writing.writer.config.net, writing.request
    common = {"seed": request.seeds[0], "index": request.indices[0]}
    try:
        sizes = {"rows": net.side, "columns": net.side, "patch": net.patch, "total": net.num_tokens}
        yield _event("start", {"model": writing.writer.name, **common, **sizes})
        sent = 0
        while True:
            is_open, num = writing.open, len(writing.steps)
            for step in writing.steps[sent:num]:
                yield _event("token", _token(step, net.side))
            if num == sent:
                if not is_open:
                    break
                await writing.wait(sent, keep_alive)
                if len(writing.steps) == sent and writing.open:
                    yield ": running\n\n"
            sent = num
        if writing.status != "done":
            yield _event("error", failure_error(writing.status, writing.reason, writing.message).body())
            return
        tokens = writing.tokens[0].tolist()
        bits = sum(float(step.bits[0]) for step in writing.steps)
        image = await asyncio.to_thread(_picture_url, writing)
        done = {"tokens": tokens, "bits": _rounded(bits), "seconds": round(writing.seconds, 4), **common}
        yield _event("done", {**done, "image": image})
    finally:
        writing.cancelled.set()  # the client has disconnected, or the picture is finished


def _token(step: Written, side: int) -> dict[str, Any]:
    alternatives = zip(step.alternatives[0].tolist(), step.probabilities[0].tolist(), strict=True)
    return {
        "place": step.place,
        "row": step.place // side,
        "column": step.place % side,
        "token": int(step.tokens[0]),
        "given": bool(step.given[0]),
        "probability": float(f"{float(step.probability[0]):.6g}"),
        "bits": _rounded(float(step.bits[0])),
        "alternatives": [{"token": token, "probability": float(f"{share:.6g}")} for token, share in alternatives],
    }


def _rounded(bits: float) -> float | None:
    """Bits for JSON, which has no infinity: null where the model takes a given token to be impossible."""
    return round(bits, 4) if math.isfinite(bits) else None


def _picture_url(writing: Writing) -> str:
    return _url(writing.writer.pictures(writing.tokens)[0])


def _encode(writer: TokenWriter, image: str) -> dict[str, Any]:
    kept = writer.encode(decode_base64(image, "image"))
    return {"tokens": kept.tokens.tolist(), "image": _url(kept.picture), "psnr": round(kept.psnr, 2)}


def _url(picture: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(_png(picture)).decode()


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _event(name: str, members: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps({'type': name, **members})}\n\n"
