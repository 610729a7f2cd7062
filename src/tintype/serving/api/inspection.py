"""Routes that inspect: the models and their settings, a model's predictions by noise level, a picture's receipt."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import ValidationError
from torch import Tensor

from tintype.diffusion.samplers import SAMPLERS
from tintype.diffusion.sigmas import SCHEDULES
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.receipt import Receipt
from tintype.serving.api.disconnect import until_done
from tintype.serving.api.dispatcher import Dispatcher, job_error
from tintype.serving.api.errors import from_validation
from tintype.serving.api.images import base64_bytes, decode_base64, read_receipt
from tintype.serving.api.job_state import receipt_json
from tintype.serving.api.schemas import NoiseLevelsBody, ReceiptBody
from tintype.serving.engine.noise_levels import NoiseSweepTask, describe_levels, encode_picture

SWEEP_SECONDS = 60.0
NUM_LEVELS = 12
_LOOK = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": NoiseLevelsBody.model_json_schema()}},
    }
}


def router(dispatcher: Dispatcher) -> APIRouter:
    """The routes /api/models, /api/look and /api/receipt."""
    routes = APIRouter(prefix="/api", tags=["inspection"])

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        """The models with their limits and defaults, and the choices of sampler and schedule."""
        return {
            "models": [_model(dispatcher, name) for name in dispatcher.catalog.pipelines],
            "samplers": list(SAMPLERS),
            "schedules": list(SCHEDULES),
        }

    @routes.post("/look", openapi_extra=_LOOK)
    async def look(request: HttpRequest) -> dict[str, Any]:
        """Add noise to an image, from almost none to pure noise, and denoise it at each level."""
        task = await _noise_sweep(dispatcher, request)
        job = dispatcher.submit(task, request, seconds=SWEEP_SECONDS)
        try:
            await until_done(job.finished(), request)
        finally:
            dispatcher.engine.cancel(job)
        if job.result is None:
            raise job_error(job)
        return {"model": task.pipeline.name, "levels": await asyncio.to_thread(describe_levels, task, job.result)}

    @routes.post("/receipt")
    async def receipt(body: ReceiptBody, request: HttpRequest) -> dict[str, Any]:
        """The receipt inside a picture, or null."""
        async with dispatcher.decoding.place(request.state.client):
            receipt = await dispatcher.decoding.run(_read_receipt, body.image)
        return {"receipt": None if receipt is None else receipt_json(receipt)}

    return routes


async def _noise_sweep(dispatcher: Dispatcher, request: HttpRequest) -> NoiseSweepTask:
    """The task that a request asks for. Raises ApiError.

    Nothing keeps the body once this returns, since the request may wait for long; FastAPI would keep one it parses.
    """
    content = b"".join([piece async for piece in request.stream()])
    try:
        body = await asyncio.to_thread(NoiseLevelsBody.model_validate_json, content)
    except ValidationError as error:
        raise from_validation(error.errors(include_url=False, include_input=False)) from None
    pipeline = dispatcher.pipeline(body.model)
    async with dispatcher.decoding.place(request.state.client):
        x0 = await dispatcher.decoding.run(_decode_x0, pipeline, body.image)
    return NoiseSweepTask(pipeline, x0, body.prompt, body.seed or 0, body.levels or NUM_LEVELS)


def _decode_x0(pipeline: Pipeline, image: str) -> Tensor:
    return encode_picture(pipeline, decode_base64(image, "image"))


def _read_receipt(image: str) -> Receipt | None:
    return read_receipt(base64_bytes(image, "image"))


def _model(dispatcher: Dispatcher, name: str) -> dict[str, Any]:
    pipeline = dispatcher.catalog.pipelines[name]
    config = pipeline.config
    return {
        "name": name,
        "resolution": config.net.resolution,
        "width": config.default_size[0],  # of a picture for which a client gives no size
        "height": config.default_size[1],
        "patch": config.net.multiple,
        "max_pixels": dispatcher.settings.pixel_limit(config),
        "max_steps": dispatcher.settings.max_steps,
        "sigma_min": config.noise.sigma_min,
        "sigma_max": config.noise.sigma_max,
        "steps": config.sample.steps,
        "guidance": config.sample.guidance,
        "sampler": config.sample.sampler,
        "schedule": config.sample.schedule,
        "schedule_center": config.sample.schedule_center,
        "schedule_spread": config.sample.schedule_spread,
        "guidance_interval": [config.sample.guidance_min, config.sample.guidance_max],
        "prediction": config.noise.prediction,
        "codec": config.net.codec,
        "sha256": pipeline.model_hash,
        "examples": dispatcher.catalog.examples(name),
        "noise_error": dispatcher.catalog.noise_error(name),
        "is_run": name in dispatcher.catalog.runs,
    }
