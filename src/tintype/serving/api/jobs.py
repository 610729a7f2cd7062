"""The API of the page: jobs that go on when their reader goes away, and that any number of readers can follow."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from PIL import Image

from tintype.diffusion.samplers import SAMPLERS
from tintype.pipeline.image_file import encode
from tintype.pipeline.receipt import Receipt
from tintype.serving.api.dispatcher import SSE_HEADERS, Desk, fault_of
from tintype.serving.api.errors import Fault, invalid
from tintype.serving.api.images import from_base64, read, read_mask, receipt_of, strip
from tintype.serving.api.schemas import JobAsk, LookAsk, ReceiptAsk, max_pixels, pipeline_of
from tintype.serving.engine.job import Making, Work
from tintype.serving.engine.noise_levels import Looking, levels
from tintype.view.contact_sheet import animation

MAX_KEPT_BYTES = 256 * 2**20  # of all jobs' frames and pictures
POSITION_SECONDS = 1.0  # between looks at the place in the queue


class Store:
    """Jobs by id: all that are open, and the latest of those that are over."""

    def __init__(self, num: int, seconds: float) -> None:
        self._num = num
        self._seconds = seconds
        self._works: dict[str, Work] = {}

    def add(self, work: Work) -> None:
        """Remember a job, and forget the oldest finished ones beyond the limits."""
        self._works[work.id] = work
        over = [old for old in self._works.values() if not old.open]
        size = sum(old.size_kept for old in over)
        for place, old in enumerate(over):
            late = old.ended + self._seconds < time.monotonic()
            if late or len(over) - place > self._num or size > MAX_KEPT_BYTES:
                del self._works[old.id]
                size -= old.size_kept

    def get(self, job: str, owner: str) -> Work:
        """Raises Fault: 404 for what is not there, 403 for what belongs to another key."""
        work = self._works.get(job)
        if work is None:
            raise Fault(404, "there is no such job here, or it is too long ago", "job_not_found")
        if work.owner != owner:
            raise Fault(403, "this job belongs to another key", "not_yours")
        return work


def router(desk: Desk) -> APIRouter:
    """The routes under /api that make pictures."""
    routes = APIRouter(prefix="/api", tags=["jobs"])
    store = Store(desk.settings.kept_jobs, 60 * desk.settings.kept_minutes)

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        """What can be asked for, with each model's own settings."""
        return {"models": [_model(desk, name) for name in desk.catalog.pipelines], "samplers": list(SAMPLERS)}

    @routes.post("/jobs", status_code=202)
    async def submit(ask: JobAsk, request: Request) -> Response:
        """Begin a job. It goes on until it is done or deleted, whoever follows it."""
        init = mask = None
        if ask.init_image is not None:
            init = await asyncio.to_thread(_sent, read, ask.init_image, "init_image")
        if ask.mask is not None:
            if init is None:
                raise invalid("mask needs an init_image", "mask")
            mask = await asyncio.to_thread(_sent, read_mask, ask.mask, "mask")
        mark = await desk.mark(request, ask)
        making = await desk.making(ask, init, mask)
        work = desk.open(making, request, seconds=desk.settings.deadline, watch=range, keep=True, mark=mark)
        store.add(work)
        answer = await _answer(desk, work)
        answer.status_code = 202
        answer.headers["Location"] = f"/api/jobs/{work.id}"
        return answer

    @routes.get("/jobs/{job}")
    async def state(job: str, request: Request) -> Response:
        """How a job is doing: status, place in the queue, newest step, seconds left, pictures."""
        return await _answer(desk, store.get(job, request.state.owner))

    @routes.get("/jobs/{job}/events", response_class=StreamingResponse)
    async def events(job: str, request: Request) -> StreamingResponse:
        """Follow a job as server-sent events named `state`. A slow reader gets the newest state, not every one."""
        work = store.get(job, request.state.owner)
        seen = request.headers.get("last-event-id", "")
        start = int(seen) if seen.isascii() and seen.isdecimal() and len(seen) < 10 else -1
        return StreamingResponse(_follow(desk, work, start), media_type="text/event-stream", headers=SSE_HEADERS)

    @routes.delete("/jobs/{job}")
    async def cancel(job: str, request: Request) -> Response:
        """Give a job up; it stops after the step it is in. Deleting what is over changes nothing."""
        work = store.get(job, request.state.owner)
        desk.engine.cancel(work)
        return await _answer(desk, work)

    @routes.get("/jobs/{job}/steps/{index}.png", response_class=Response)
    async def step(job: str, index: int, request: Request) -> Response:
        """One step: a row per picture, with what went in, the model's guess, and the noise it identified."""
        frame = store.get(job, request.state.owner).frames.get(index)
        if frame is None:
            raise Fault(404, "this step is not kept", "step_not_found")
        return _png(await asyncio.to_thread(strip, frame))

    @routes.get("/jobs/{job}/pictures/{row}.png", response_class=Response)
    async def picture(job: str, row: int, request: Request) -> Response:
        """One finished picture, with its receipt inside."""
        work = store.get(job, request.state.owner)
        if work.result is None or not 0 <= row < len(work.result):
            raise Fault(404, "there is no such picture", "picture_not_found")
        return _png(await asyncio.to_thread(_finished, work, row))

    @routes.get("/jobs/{job}/film.gif", response_class=Response)
    async def film(job: str, request: Request) -> Response:
        """All steps that are kept as an animation, to be shown to others; of several pictures the first four."""
        work = store.get(job, request.state.owner)
        frames = [work.frames[index] for index in sorted(work.frames)]
        if work.open or not frames:
            raise Fault(404, "there is no film yet", "film_not_found")
        content = await asyncio.to_thread(animation, frames)
        return Response(content, media_type="image/gif", headers={"Cache-Control": "private, max-age=3600"})

    @routes.post("/look")
    async def look(ask: LookAsk, request: Request) -> dict[str, Any]:
        """Add noise to a picture, from a touch to static, and see what the model finds at each level."""
        pipeline = pipeline_of(desk.catalog, ask.model)
        picture = await asyncio.to_thread(_sent, read, ask.image, "image")
        looking = Looking(pipeline, picture, ask.prompt, ask.seed or 0, ask.levels or 12)
        work = desk.open(looking, request, seconds=60.0)
        try:
            await work.finished()
        finally:
            desk.engine.cancel(work)
        if work.result is None:
            raise fault_of(work)
        return {"model": pipeline.name, "levels": await asyncio.to_thread(levels, looking, work.result)}

    @routes.post("/receipt")
    async def receipt(ask: ReceiptAsk) -> dict[str, Any]:
        """What made a picture, if it carries a receipt."""
        found = await asyncio.to_thread(lambda: receipt_of(from_base64(ask.image, "image")))
        return {"receipt": None if found is None else _receipt(found)}

    return routes


def _model(desk: Desk, name: str) -> dict[str, Any]:
    pipeline = desk.catalog.pipelines[name]
    config = pipeline.config
    return {
        "name": name,
        "resolution": config.net.resolution,
        "patch": config.net.patch,
        "max_pixels": max_pixels(desk.settings, config),
        "max_steps": desk.settings.max_steps,
        "sigma_min": config.noise.sigma_min,
        "sigma_max": config.noise.sigma_max,
        "steps": config.sample.steps,
        "guidance": config.sample.guidance,
        "sampler": config.sample.sampler,
        "sha256": pipeline.model_hash,
        "examples": desk.catalog.examples(name),
        "noise_error": desk.catalog.noise_error(name),
        "is_run": name in desk.catalog.runs,
    }


async def _answer(desk: Desk, work: Work) -> Response:
    return Response(await asyncio.to_thread(_state, desk, work), media_type="application/json")


def _state(desk: Desk, work: Work) -> str:
    """Everything about a job that a page shows, as JSON. Pictures take a while to write: not for the loop."""
    status = work.status  # once: the engine goes on meanwhile, and sets it last
    state: dict[str, Any] = {
        "id": work.id,
        "status": status,
        "position": desk.engine.position(work),
        "total": work.total,
        "step": None,
        "seconds_left": None,
    }
    frames = work.frames
    newest = max(frames, default=None)
    if newest is not None:
        frame = frames[newest]
        data = "data:image/png;base64," + base64.b64encode(strip(frame)).decode()
        state["step"] = {"index": newest, "sigma": frame.sigma, "strip": data, "rows": len(frame.guess)}
    if status in ("waiting", "running"):
        left = desk.engine.seconds_left(work)
        state["seconds_left"] = None if left is None else round(left, 2)
    if work.num_cut:
        state["warning"] = (
            f"the text is longer than the {work.task.pipeline.config.text.max_tokens} tokens that are read"
        )
    if status == "done" and isinstance(work.task, Making):
        state["seconds"] = round(work.ended - work.started, 3)
        state["sigmas"] = {index: frame.sigma for index, frame in work.frames.items()}
        state["pictures"] = [
            {"url": f"/api/jobs/{work.id}/pictures/{row}.png", "receipt": _receipt(receipt)}
            for row, receipt in enumerate(work.task.pipeline.receipts(work.task.request))
        ]
    elif status in ("failed", "cancelled"):
        state |= fault_of(work).body()
    return json.dumps(state)


async def _follow(desk: Desk, work: Work, seen: int) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    quiet_since = time.monotonic()
    while True:
        version, is_open = work.version, work.open
        if version != seen or work.status == "waiting":
            yield f"id: {version}\nevent: state\ndata: {await asyncio.to_thread(_state, desk, work)}\n\n"
            seen, quiet_since = version, time.monotonic()
        elif time.monotonic() - quiet_since >= desk.settings.keep_alive:
            yield ": still at it\n\n"
            quiet_since = time.monotonic()
        if not is_open:
            return
        await work.wait(seen, POSITION_SECONDS)


def _sent(reading: Callable[[bytes, str], Image.Image], text: str, param: str) -> Image.Image:
    """A picture or a mask that was sent as base64."""
    return reading(from_base64(text, param), param)


def _receipt(receipt: Receipt) -> dict[str, Any]:
    """As JSON for JavaScript, whose numbers end at 2^53: the seed is a text."""
    return {**dataclasses.asdict(receipt), "seed": str(receipt.seed)}


def _finished(work: Work, row: int) -> bytes:
    assert isinstance(work.task, Making)
    assert work.result is not None
    pipeline = work.task.pipeline
    picture = pipeline.pictures(work.result[row : row + 1])[0]
    return encode(picture, pipeline.receipts(work.task.request)[row], ".png")


def _png(content: bytes) -> Response:
    return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=3600, immutable"})
