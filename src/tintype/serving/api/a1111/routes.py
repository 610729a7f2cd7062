"""The routes under /sdapi/v1: pictures, progress, interruption, the choice of the model."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response
from pydantic import ValidationError

from tintype.errors import DataError
from tintype.pipeline.receipt import Receipt
from tintype.serving.api.a1111.answers import answer, infotext, progress
from tintype.serving.api.a1111.bodies import ImageBody, Img2ImgBody, Lenient, OptionsBody, PictureBody, Txt2ImgBody
from tintype.serving.api.a1111.clients import Clients
from tintype.serving.api.a1111.images import init_images
from tintype.serving.api.a1111.lists import add_lists
from tintype.serving.api.disconnect import until_done
from tintype.serving.api.dispatcher import Dispatcher, job_error, warning_header
from tintype.serving.api.errors import bad_request, from_validation
from tintype.serving.api.images import base64_bytes, read_texts
from tintype.serving.engine.job import GenerateTask

Body = TypeVar("Body", bound=Lenient)


def router(dispatcher: Dispatcher) -> APIRouter:
    """The routes under /sdapi/v1."""
    routes = APIRouter(prefix="/sdapi/v1", tags=["A1111"])
    clients = Clients()
    _add_pictures(routes, dispatcher, clients)
    _add_control(routes, dispatcher, clients)
    _add_options(routes, dispatcher, clients)
    add_lists(routes, dispatcher)
    return routes


def _add_pictures(routes: APIRouter, dispatcher: Dispatcher, clients: Clients) -> None:
    @routes.post("/txt2img", openapi_extra=_schema(Txt2ImgBody))
    async def txt2img(request: HttpRequest) -> Response:
        """Generate pictures. Picture i has seed + i."""
        body = await _read(Txt2ImgBody, request)
        generate, notes = _generate_body(dispatcher, clients, request, body)
        task = _with_seeds(await dispatcher.generate_task(generate), notes)
        return await _generate(dispatcher, clients, request, body, task)

    @routes.post("/img2img", openapi_extra=_schema(Img2ImgBody))
    async def img2img(request: HttpRequest) -> Response:
        """Start from an image with noise added; with a mask, repaint only where it is opaque, or all of it white."""
        body, task = await _edit(dispatcher, clients, request)
        return await _generate(dispatcher, clients, request, body, task)

    @routes.post("/png-info", openapi_extra=_schema(ImageBody))
    async def png_info(request: HttpRequest) -> dict[str, Any]:
        """The settings inside a picture, in the terms of these routes."""
        body = await _read(ImageBody, request)
        async with dispatcher.decoding.place(request.state.client):
            texts = await dispatcher.decoding.run(lambda: read_texts(base64_bytes(body.image, "image")))
        return _png_info(dispatcher, texts)


def _generate_body(
    dispatcher: Dispatcher, clients: Clients, request: HttpRequest, body: Txt2ImgBody
) -> tuple[PictureBody, list[str]]:
    chosen = body.override_settings.sd_model_checkpoint or clients.model(request.state.owner)
    pipeline = dispatcher.pipeline(chosen)
    return body.generate_body(pipeline.name, pipeline.config)


async def _edit(dispatcher: Dispatcher, clients: Clients, request: HttpRequest) -> tuple[Img2ImgBody, GenerateTask]:
    """The body, without images that nobody asks back, and the task. Nothing else keeps the images."""
    body = await _read(Img2ImgBody, request)
    if not body.init_images:
        raise bad_request("init_images is missing", "init_images", "missing_required_parameter")
    generate, notes = _generate_body(dispatcher, clients, request, body)
    async with dispatcher.decoding.place(request.state.client):
        init_image, mask = await dispatcher.decoding.run(init_images, body)
        task = await dispatcher.generate_task(generate, init_image, mask)
    if not body.include_init_images:
        body = body.model_copy(update={"init_images": [], "mask": None})
    return body, _with_seeds(task, notes)


async def _generate(
    dispatcher: Dispatcher, clients: Clients, request: HttpRequest, body: Txt2ImgBody, task: GenerateTask
) -> Response:
    job = dispatcher.submit(task, request, seconds=dispatcher.settings.deadline, previews=range)
    with clients.open(request.state.client, job):
        try:
            await until_done(job.finished(), request)
        finally:
            dispatcher.abandon(job)
        is_interrupted = job.status == "cancelled" and clients.is_interrupted(job)
    if job.status != "done" and not is_interrupted:
        raise job_error(job)
    files: list[bytes] = []
    for row in range(task.num if body.send_images else 0):
        file = await dispatcher.encodings.preview(job, row) if is_interrupted else None
        if not is_interrupted:
            file = await dispatcher.encodings.picture(job, row)
        files += [] if file is None else [file]
    content = await asyncio.to_thread(answer, job, task, body, files)
    return Response(content, media_type="application/json", headers=warning_header(job))


def _add_control(routes: APIRouter, dispatcher: Dispatcher, clients: Clients) -> None:
    @routes.get("/progress")
    async def get_progress(request: HttpRequest, skip_current_image: bool = False) -> dict[str, Any]:
        """The progress of the client's current request, with the model's newest guess."""
        jobs = clients.jobs(request.state.client)
        state = progress(jobs, dispatcher.engine)
        if jobs and not skip_current_image:
            file = await dispatcher.encodings.preview(jobs[0], 0)
            state["current_image"] = None if file is None else base64.b64encode(file).decode()
        return state

    @routes.post("/interrupt")
    @routes.post("/skip")
    async def interrupt(request: HttpRequest) -> dict[str, Any]:
        """End the client's current request after its step; it answers with the model's newest guess."""
        job = clients.interrupt(request.state.client)
        if job is not None:
            dispatcher.engine.cancel(job)
        return {}


def _add_options(routes: APIRouter, dispatcher: Dispatcher, clients: Clients) -> None:
    @routes.get("/options")
    async def options(request: HttpRequest) -> dict[str, Any]:
        """The options that clients read; the only one that can be set is the model."""
        pipeline = dispatcher.pipeline(clients.model(request.state.owner))
        return {
            "sd_model_checkpoint": pipeline.name,
            "sd_checkpoint_hash": pipeline.model_hash,
            "sd_vae": "Automatic",
            "samples_format": "png",
            "CLIP_stop_at_last_layers": 1,
            "inpainting_mask_weight": 1.0,
            "show_progress_every_n_steps": 1,
        }

    @routes.post("/options", openapi_extra=_schema(OptionsBody))
    async def set_options(request: HttpRequest) -> None:
        """Choose the model of the requests with this key that name none; all other options are ignored."""
        body = await _read(OptionsBody, request)
        if body.sd_model_checkpoint is not None:
            clients.choose(request.state.owner, dispatcher.pipeline(body.sd_model_checkpoint).name)

    @routes.post("/refresh-checkpoints")
    async def refresh() -> None:
        """Nothing to do: the server looks for newer models by itself."""


def _with_seeds(task: GenerateTask, notes: list[str]) -> GenerateTask:
    """The task with seed + i for picture i, as A1111 counts, in place of one seed with index i."""
    request = task.request
    seeds = tuple(seed + index for index, seed in enumerate(request.seeds))
    request = replace(request, seeds=seeds, indices=(0,) * len(seeds), notes=(*notes, *request.notes))
    return replace(task, request=request)


async def _read(body_class: type[Body], request: HttpRequest) -> Body:
    """The body of a request. Raises ApiError.

    Nothing keeps its text once this returns, since the request may wait for long; FastAPI would keep what it parses.
    """
    content = b"".join([piece async for piece in request.stream()])
    try:
        return await asyncio.to_thread(body_class.model_validate_json, content)
    except ValidationError as error:
        raise from_validation(error.errors(include_url=False, include_input=False)) from None


def _png_info(dispatcher: Dispatcher, texts: dict[str, str]) -> dict[str, Any]:
    try:
        receipt = Receipt.from_json(texts["tintype"])
    except (KeyError, DataError):
        return {"info": texts.get("parameters", ""), "items": {}, "parameters": {}}
    pipelines = dispatcher.catalog.pipelines.values()
    made_with = next((pipeline for pipeline in pipelines if pipeline.model_hash == receipt.model_hash), None)
    text = receipt.parameters() if made_with is None else infotext(receipt, made_with.config.sample.guidance)
    return {"info": text, "items": {"parameters": text}, "parameters": {}}


def _schema(body_class: type[Lenient]) -> dict[str, Any]:
    content = {"application/json": {"schema": body_class.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
