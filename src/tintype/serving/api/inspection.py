"""Routes that inspect: the models and their settings, a model's predictions by noise level, a picture's receipt."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from PIL import Image

from tintype.diffusion.samplers import SAMPLERS
from tintype.diffusion.sigmas import SCHEDULES
from tintype.pipeline.init_image import resize_and_crop
from tintype.pipeline.receipt import Receipt
from tintype.serving.api.dispatcher import Dispatcher, job_error
from tintype.serving.api.images import base64_bytes, decode_base64, read_receipt
from tintype.serving.api.job_state import receipt_json
from tintype.serving.api.schemas import NoiseLevelsBody, ReceiptBody
from tintype.serving.engine.noise_levels import NoiseSweepTask, describe_levels

SWEEP_SECONDS = 60.0
NUM_LEVELS = 12


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

    @routes.post("/look")
    async def look(body: NoiseLevelsBody, request: HttpRequest) -> dict[str, Any]:
        """Add noise to an image, from almost none to pure noise, and denoise it at each level."""
        pipeline = dispatcher.pipeline(body.model)
        async with dispatcher.decoding.place(request.state.client):
            side = pipeline.config.net.resolution
            image = await dispatcher.decoding.run(_decode_at, body.image, side)
        task = NoiseSweepTask(pipeline, image, body.prompt, body.seed or 0, body.levels or NUM_LEVELS)
        job = dispatcher.submit(task, request, seconds=SWEEP_SECONDS)
        try:
            await job.finished()
        finally:
            dispatcher.engine.cancel(job)
        if job.result is None:
            raise job_error(job)
        return {"model": pipeline.name, "levels": await asyncio.to_thread(describe_levels, task, job.result)}

    @routes.post("/receipt")
    async def receipt(body: ReceiptBody, request: HttpRequest) -> dict[str, Any]:
        """The receipt inside a picture, or null."""
        async with dispatcher.decoding.place(request.state.client):
            receipt = await dispatcher.decoding.run(_read_receipt, body.image)
        return {"receipt": None if receipt is None else receipt_json(receipt)}

    return routes


def _decode_at(image: str, side: int) -> Image.Image:
    """An image in base64 at the size of the model, because a job must not hold a large one while it waits."""
    return resize_and_crop(decode_base64(image, "image"), "RGB", side, side)


def _read_receipt(image: str) -> Receipt | None:
    return read_receipt(base64_bytes(image, "image"))


def _model(dispatcher: Dispatcher, name: str) -> dict[str, Any]:
    pipeline = dispatcher.catalog.pipelines[name]
    config = pipeline.config
    return {
        "name": name,
        "resolution": config.net.resolution,
        "patch": config.net.multiple,
        "max_pixels": dispatcher.settings.pixel_limit(config),
        "max_steps": dispatcher.settings.max_steps,
        "sigma_min": config.noise.sigma_min,
        "sigma_max": config.noise.sigma_max,
        "steps": config.sample.steps,
        "guidance": config.sample.guidance,
        "sampler": config.sample.sampler,
        "schedule": config.sample.schedule,
        "sha256": pipeline.model_hash,
        "examples": dispatcher.catalog.examples(name),
        "noise_error": dispatcher.catalog.noise_error(name),
        "is_run": name in dispatcher.catalog.runs,
    }
