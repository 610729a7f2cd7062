"""The jobs API: jobs continue when their client disconnects, and any number of clients can follow one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response, StreamingResponse
from PIL import Image

from tintype.serving.api.disconnect import until_done
from tintype.serving.api.dispatcher import SSE_HEADERS, Dispatcher
from tintype.serving.api.errors import ApiError, bad_request
from tintype.serving.api.images import decode_base64, decode_base64_mask
from tintype.serving.api.job_state import follow, job_state
from tintype.serving.api.job_store import JobStore
from tintype.serving.api.renderings import Check, Renderings
from tintype.serving.api.schemas import JobBody
from tintype.serving.engine.job import GenerateTask, Job
from tintype.view.contact_sheet import Frame, encode_film, film_pages, indexed, within_pixels

CACHE = "private, max-age=3600"
MAX_OPEN_FILMS = 8  # that are made or wait for it; one is made at a time
MAX_OPEN_FILMS_OF_CLIENT = 4
MAX_FILM_PIXELS = 24 * 10**6  # of all its frames: a few seconds of work, and about as many bytes
MAX_KEPT_FILM_BYTES = 64 * 2**20  # of finished films


def router(dispatcher: Dispatcher) -> APIRouter:
    """The routes under /api/jobs."""
    routes = APIRouter(prefix="/api/jobs", tags=["jobs"])
    store = dispatcher.store
    _add_control(routes, dispatcher, store)
    _add_pictures(routes, dispatcher, store)
    _add_film(routes, dispatcher, store)
    return routes


def _add_control(routes: APIRouter, dispatcher: Dispatcher, store: JobStore) -> None:
    """Submit, follow and cancel."""

    @routes.post("", status_code=202)
    async def submit(body: JobBody, request: HttpRequest) -> Response:
        """Submit a job. It runs until it is done or deleted, whether or not a client follows it."""
        request_hash = await dispatcher.request_hash(request, body)
        task = await _task(dispatcher, body, request)
        seconds = dispatcher.settings.deadline
        job = dispatcher.submit(
            task, request, seconds=seconds, previews=range, keep_frames=True, request_hash=request_hash
        )
        store.add(job)
        response = await _state(dispatcher, job, request)
        response.status_code = 202
        response.headers["Location"] = f"{request.state.prefix}/api/jobs/{job.id}"
        return response

    @routes.get("/{job}")
    async def state(job: str, request: HttpRequest) -> Response:
        """The state of a job: status, position in the queue, newest step, seconds left, pictures."""
        return await _state(dispatcher, store.get(job, request.state.owner), request)

    @routes.get("/{job}/events", response_class=StreamingResponse)
    async def events(job: str, request: HttpRequest) -> StreamingResponse:
        """Follow a job: its states as server-sent events named `state`. A slow reader gets the newest only."""
        followed = store.get(job, request.state.owner)
        last_id = request.headers.get("last-event-id", "")
        version = int(last_id) if last_id.isascii() and last_id.isdecimal() and len(last_id) < 10 else -1
        stream = follow(dispatcher, followed, version, request.state.prefix)
        return StreamingResponse(stream, media_type="text/event-stream", headers=SSE_HEADERS)

    @routes.delete("/{job}")
    async def cancel(job: str, request: HttpRequest) -> Response:
        """Cancel a job after its current step. Deleting a finished job changes nothing."""
        cancelled = store.get(job, request.state.owner)
        dispatcher.engine.cancel(cancelled)
        return await _state(dispatcher, cancelled, request)


def _add_pictures(routes: APIRouter, dispatcher: Dispatcher, store: JobStore) -> None:
    """Steps and finished pictures."""

    @routes.get("/{job}/steps/{index}.png", response_class=Response)
    async def step(job: str, index: int, request: HttpRequest) -> Response:
        """One step, a row per picture: the noisy picture, the model's guess, and the predicted noise."""
        followed = store.get(job, request.state.owner)
        is_final = followed.is_final(index)
        content = await dispatcher.encodings.step(followed, index)
        if content is None:
            raise ApiError(404, "this step is not kept", "step_not_found")
        return _png(content, is_final)

    @routes.get("/{job}/pictures/{row}.png", response_class=Response)
    async def picture(job: str, row: int, request: HttpRequest) -> Response:
        """One finished picture, with its receipt inside."""
        finished = store.get(job, request.state.owner)
        if finished.result is None or not 0 <= row < len(finished.result):
            raise ApiError(404, "unknown picture: the job has no such picture, or is not done", "picture_not_found")
        return _png(await dispatcher.encodings.picture(finished, row))


def _add_film(routes: APIRouter, dispatcher: Dispatcher, store: JobStore) -> None:
    films = Renderings(
        max_open=MAX_OPEN_FILMS,
        max_open_of_client=MAX_OPEN_FILMS_OF_CLIENT,
        max_bytes=MAX_KEPT_FILM_BYTES,
        is_stopping=lambda: dispatcher.engine.draining,
    )

    @routes.get("/{job}/film.gif", response_class=Response)
    async def film(job: str, request: HttpRequest) -> Response:
        """The kept steps as an animation, of at most four pictures. Long films are smaller and leave out steps."""
        finished = store.get(job, request.state.owner)
        frames = [finished.frames[index] for index in sorted(finished.frames)]
        if finished.open or not frames:
            raise ApiError(404, "there is no film before the job has ended", "film_not_found")
        making = films.get(finished.id, request.state.client, partial(_film, frames))
        content = await until_done(making, request)
        return Response(content, media_type="image/gif", headers={"Cache-Control": CACHE})


async def _task(dispatcher: Dispatcher, body: JobBody, request: HttpRequest) -> GenerateTask:
    """The task of a body, with its images decoded. Raises ApiError."""
    if body.init_image is None:
        if body.mask is not None:
            raise bad_request("mask needs an init_image", "mask")
        return await dispatcher.generate_task(body)
    async with dispatcher.decoding.place(request.state.client):
        init_image = await dispatcher.decoding.run(decode_base64, body.init_image, "init_image")
        mask = None if body.mask is None else await dispatcher.decoding.run(decode_base64_mask, body.mask, "mask")
        return await dispatcher.generate_task(body, init_image, mask)


async def _state(dispatcher: Dispatcher, job: Job, request: HttpRequest) -> Response:
    return Response(await job_state(dispatcher, job, request.state.prefix), media_type="application/json")


def _film(frames: Sequence[Frame], check: Check) -> bytes:
    frames, cell = within_pixels(frames, MAX_FILM_PIXELS)

    def pages() -> Iterator[Image.Image]:
        for page in film_pages(frames, cell):
            check()
            yield indexed(page)

    return encode_film(pages(), len(frames))


def _png(content: bytes, is_final: bool = True) -> Response:
    headers = {"Cache-Control": f"{CACHE}, immutable" if is_final else "no-store"}
    return Response(content, media_type="image/png", headers=headers)
