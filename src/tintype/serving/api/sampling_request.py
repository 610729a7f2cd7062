"""Requests of the pipeline from request bodies: sizes, seeds and limits. Nothing here waits or decodes."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import cast

from PIL import Image

from tintype.config import Config
from tintype.config.sizes import parse_size, size_text
from tintype.errors import ConfigError
from tintype.pipeline.limits import MAX_SIDE
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.request import Options, Request
from tintype.pipeline.sizes import model_size
from tintype.serving.api.errors import bad_request
from tintype.serving.api.schemas import GenerateBody, SamplingBody
from tintype.serving.settings import Settings


def to_request(
    body: GenerateBody,
    pipeline: Pipeline,
    settings: Settings,
    init_image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> Request:
    """The pipeline's request, completed and checked; picture i has the body's seed and index i. Raises ApiError."""
    width, height = _sides(body, pipeline.config)
    num = body.n or 1
    seed = secrets.randbelow(2**32) if body.seed is None or body.seed == -1 else body.seed
    if body.source_caption is not None and init_image is None:
        name = body.param("source_caption")
        raise bad_request(f"{name} needs an input image", name)
    if body.steps is not None and body.steps > settings.max_steps:
        raise bad_request(f"steps must be from 1 to {settings.max_steps} here", "steps")
    pixels = settings.pixel_limit(pipeline.config)
    num_pixels = (width or 1) * (height or 1)
    enlarge, notes = _enlargement(body, width, height, pipeline.config, settings)
    if enlarge and num * num_pixels > settings.max_enlarged_pixels:
        most = f"{settings.max_enlarged_pixels} pixels in all pictures of a request"
        raise bad_request(f"enlarged pictures must have at most {most}; ask for a smaller size or fewer", "size")
    if not enlarge and num_pixels > pixels:
        side = int(pixels**0.5)
        raise bad_request(
            f"size must be at most {pixels} pixels, such as {side}x{side}, for this model; with enlarge, it makes a "
            "picture of its own size and enlarges that",
            "size",
        )
    first = body.index or 0
    options = {name: getattr(body, name) for name in SamplingBody.model_fields} | {
        "seeds": [seed] * num,
        "indices": range(first, first + num),
        "init_image": init_image,
        "mask": mask,
        "strength": body.strength if init_image is not None else None,
        "width": width,
        "height": height,
        "enlarge": enlarge,
    }
    try:
        request = pipeline.request([body.prompt] * num, **cast(Options, options))
    except ConfigError as error:
        name = str(error).partition(" ")[0]  # messages start with the option's name
        param = body.param(name) if name in SamplingBody.model_fields else None
        raise bad_request(str(error), "size" if name in ("width", "height") else param) from None
    if request.width * request.height > pixels:  # a side that the request left out may have followed its image
        raise bad_request(f"size must be at most {pixels} pixels for this model, with its padding", "size")
    return replace(request, notes=(*notes, *body.notes(), *request.notes))


def _enlargement(
    body: GenerateBody, width: int | None, height: int | None, config: Config, settings: Settings
) -> tuple[bool | None, list[str]]:
    """Whether the picture is made at the model's own size and enlarged, and a note if the client did not ask for it.

    Many clients insist on a size of large models, such as 1024x1024: see `GenerateBody.enlarges_beyond`.
    """
    if body.enlarge is not None or body.enlarges_beyond is None or width is None or height is None:
        return body.enlarge, []
    own, multiple = model_size(config, (width, height)), config.net.multiple
    limit = min(settings.pixel_limit(config), (body.enlarges_beyond * config.net.resolution) ** 2)
    is_direct = width * height <= limit and width % multiple == 0 and height % multiple == 0
    is_larger = width * height > own[0] * own[1]
    if is_direct or not is_larger or max(width, height) > MAX_SIDE:
        return None, []
    return True, [f"made at {size_text(own)}, the size of this model, and enlarged to {size_text((width, height))}"]


def _sides(body: GenerateBody, config: Config) -> tuple[int | None, int | None]:
    if body.size in (None, "auto", ""):
        return body.width, body.height
    try:
        return parse_size(str(body.size))
    except ConfigError:
        example = size_text(config.default_size)
        message = f'size must be "auto" or WIDTHxHEIGHT in multiples of {config.net.multiple}, such as "{example}"'
        raise bad_request(message, "size") from None
