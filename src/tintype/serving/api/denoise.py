"""The route /api/denoise: one call of the network, numbers in and numbers out, without sampler and guidance."""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Any

import torch
from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, ValidationError
from torch import Tensor

from tintype.pipeline.limits import MAX_CAPTION, MAX_SIDE, MAX_SIGMA
from tintype.pipeline.pipeline import Pipeline
from tintype.serving.api.disconnect import until_done
from tintype.serving.api.dispatcher import Dispatcher, job_error, warning
from tintype.serving.api.errors import bad_request, from_validation
from tintype.serving.api.images import base64_bytes
from tintype.serving.engine.denoise_task import DenoiseTask
from tintype.serving.settings import MAX_PICTURES

DENOISE_SECONDS = 60.0
MAX_VALUE = 10 * MAX_SIGMA  # of the noisy pictures: noise of the highest level stays far below
Caption = Annotated[StrictStr, Field(max_length=MAX_CAPTION)]


class DenoiseBody(BaseModel):
    """Body of POST /api/denoise: noisy pictures, their noise level, and a caption for each."""

    model_config = ConfigDict(extra="ignore")

    x: Annotated[StrictStr, Field(description="One picture for all captions, or one for each, as base64.")]
    width: int = Field(strict=True, ge=1, le=MAX_SIDE)
    height: int = Field(strict=True, ge=1, le=MAX_SIDE)
    sigma: Annotated[StrictInt | StrictFloat, Field(gt=0, le=MAX_SIGMA, allow_inf_nan=False)]
    prompts: Annotated[list[Caption], Field(min_length=1, max_length=MAX_PICTURES)]
    model: Annotated[StrictStr, Field(max_length=200)] | None = None


_SCHEMA = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": DenoiseBody.model_json_schema()}}}
}


def router(dispatcher: Dispatcher) -> APIRouter:
    """The route /api/denoise."""
    routes = APIRouter(prefix="/api", tags=["inspection"])

    @routes.post("/denoise", openapi_extra=_SCHEMA)
    async def denoise(request: HttpRequest) -> dict[str, Any]:
        """The model's guess at the clean pictures under each of the captions.

        Pictures are float32 in little-endian order, [B, C, h, w], about from -1 to 1 without their noise, as base64.
        """
        task = await _task(dispatcher, request)
        job = dispatcher.submit(task, request, seconds=DENOISE_SECONDS)
        try:
            await until_done(job.finished(), request)
        finally:
            dispatcher.engine.cancel(job)
        if job.result is None:
            raise job_error(job)
        answer = {"model": task.pipeline.name, "shape": list(job.result.shape), "denoised": _base64(job.result)}
        note = warning(job)
        return {**answer, "warning": note} if note else answer

    return routes


async def _task(dispatcher: Dispatcher, request: HttpRequest) -> DenoiseTask:
    """The task that a request asks for. Raises ApiError. Nothing keeps the body once this returns."""
    content = b"".join([piece async for piece in request.stream()])
    try:
        body = await asyncio.to_thread(DenoiseBody.model_validate_json, content)
    except ValidationError as error:
        raise from_validation(error.errors(include_url=False, include_input=False)) from None
    pipeline = dispatcher.pipeline(body.model)
    most, multiple = dispatcher.settings.pixel_limit(pipeline.config), pipeline.config.net.multiple
    for name, side in (("width", body.width), ("height", body.height)):
        if side % multiple:
            raise bad_request(f"{name} must be a multiple of {multiple} for this model", name)
    if body.width * body.height > most:
        raise bad_request(f"width x height must be at most {most} pixels for this model", "width")
    async with dispatcher.decoding.place(request.state.client):
        x = await dispatcher.decoding.run(_pictures, pipeline, body)
    return DenoiseTask(pipeline, x, body.sigma, list(body.prompts))


def _pictures(pipeline: Pipeline, body: DenoiseBody) -> Tensor:
    """The noisy pictures, [1 or B, C, h, w] float32 on the CPU. Raises ApiError."""
    content = base64_bytes(body.x, "x")
    factor = pipeline.codec.factor
    shape = (pipeline.codec.channels, body.height // factor, body.width // factor)
    bytes_of_one = 4 * shape[0] * shape[1] * shape[2]
    num, rest = divmod(len(content), bytes_of_one)
    if rest or num not in (1, len(body.prompts)):
        counts = "one picture" if len(body.prompts) == 1 else f"one picture or {len(body.prompts)}"
        raise bad_request(f"x must hold {counts} of {bytes_of_one} bytes each", "x")
    x = torch.frombuffer(bytearray(content), dtype=torch.float32).reshape(num, *shape)
    if not bool((x.abs() <= MAX_VALUE).all()):  # NaN is not, either
        raise bad_request(f"x must hold numbers from {-MAX_VALUE:g} to {MAX_VALUE:g}", "x")
    return x


def _base64(pictures: Tensor) -> str:
    return base64.b64encode(pictures.float().contiguous().numpy().tobytes()).decode()
