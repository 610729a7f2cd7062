"""What may be asked for over HTTP. Types are strict, null is as good as absent, unknown fields are ignored."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictBool, StrictStr, TypeAdapter, ValidationError

from tintype.config import Config
from tintype.diffusion.samplers import SAMPLERS
from tintype.errors import ConfigError
from tintype.pipeline.limits import MAX_CAPTION, MAX_GUIDANCE, MAX_INDEX, MAX_SEED, MAX_SIDE, MIN_STRENGTH
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.request import Request
from tintype.serving.api.errors import Fault, invalid, of_validation
from tintype.serving.catalog import Catalog
from tintype.serving.engine.job import Making
from tintype.serving.settings import MAX_PICTURES, Settings, cost_of

SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)
MAX_PARTIAL = 100
MAX_LEVELS = 24


def _whole(low: int, high: int, *names: str) -> Any:
    return Field(None, strict=True, ge=low, le=high, validation_alias=AliasChoices(*names) if names else None)


def _number(low: float, high: float, *names: str) -> Any:
    alias = AliasChoices(*names) if names else None
    return Field(None, strict=True, ge=low, le=high, allow_inf_nan=False, validation_alias=alias)


class Ask(BaseModel):
    """What every way of making pictures understands."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    prompt: Annotated[StrictStr, Field(max_length=MAX_CAPTION, description="What to make; empty: whatever comes.")]
    model: StrictStr | None = Field(None, max_length=200)
    n: int | None = _whole(1, MAX_PICTURES)
    size: StrictStr | None = Field(None, max_length=20, description='Such as "64x64", or "auto".')
    width: int | None = _whole(1, MAX_SIDE)
    height: int | None = _whole(1, MAX_SIDE)
    seed: int | None = _whole(-1, MAX_SEED)
    index: int | None = _whole(0, MAX_INDEX - MAX_PICTURES)
    steps: int | None = _whole(1, 1000, "num_inference_steps", "steps")
    guidance: float | None = _number(0, MAX_GUIDANCE, "guidance_scale", "guidance", "cfg_scale")
    negative: StrictStr | None = Field(
        None, max_length=MAX_CAPTION, validation_alias=AliasChoices("negative_prompt", "negative")
    )
    sampler: StrictStr | None = Field(None, max_length=40, validation_alias=AliasChoices("sampler", "scheduler"))
    strength: float | None = _number(MIN_STRENGTH, 1)
    invert: StrictStr | None = Field(
        None, max_length=MAX_CAPTION, description="What the init image shows: lead it back to its noise, not noise it."
    )


class ImagesAsk(Ask):
    """Body of POST /v1/images/generations: the OpenAI images API, and what diffusion servers add to it."""

    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png", "webp", "jpeg"] | None = None
    output_compression: int | None = _whole(0, 100)
    background: Literal["auto", "opaque"] | None = None
    stream: StrictBool | None = None
    partial_images: int | None = _whole(0, MAX_PARTIAL)
    preview_every: int | None = _whole(1, 1000)
    # Nothing here changes the picture; they are named so that a wrong type is said rather than guessed at.
    quality: StrictStr | None = Field(None, max_length=40)
    user: StrictStr | None = Field(None, max_length=1000)


class JobAsk(Ask):
    """Body of POST /api/jobs."""

    init_image: StrictStr | None = Field(None, description="A picture to start from: base64, or a data: URL.")
    mask: StrictStr | None = Field(None, description="White, or transparent, where to paint the init image again.")


class LookAsk(BaseModel):
    """Body of POST /api/look: noise a picture to many levels and see what the model finds at each."""

    model_config = ConfigDict(extra="ignore")

    image: StrictStr
    prompt: Annotated[StrictStr, Field(max_length=MAX_CAPTION)] = ""
    model: StrictStr | None = Field(None, max_length=200)
    seed: int | None = _whole(0, MAX_SEED)
    levels: int | None = _whole(2, MAX_LEVELS)


class ReceiptAsk(BaseModel):
    """Body of POST /api/receipt."""

    image: StrictStr


def from_form(fields: dict[str, str]) -> ImagesAsk:
    """Form fields, where every value is a text, as an ImagesAsk. Raises Fault."""
    values: dict[str, Any] = {}
    for name, text in fields.items():
        value: Any = text
        if name not in ("prompt", "negative_prompt", "negative", "invert", "user", "size", "model"):
            if re.fullmatch(r"-?[0-9]{1,30}", text, re.ASCII):
                value = int(text)
            elif re.fullmatch(r"-?[0-9]{0,30}\.?[0-9]{1,30}([eE][+-]?[0-9]{1,3})?", text, re.ASCII):
                value = float(text)
            elif text.lower() in ("true", "false"):
                value = text.lower() == "true"
        values[name] = value
    try:
        return _FORM.validate_python(values)
    except ValidationError as error:
        raise of_validation(error.errors(include_url=False, include_input=False)) from None


_FORM = TypeAdapter(ImagesAsk)


def pipeline_of(catalog: Catalog, name: str | None) -> Pipeline:
    """The model asked for; none named is the first. Raises Fault."""
    pipeline = catalog.get(name)
    if pipeline is None and name is None:
        raise Fault(503, "no model is ready: the run has not saved a checkpoint yet", "not_ready", retry_after=30)
    if pipeline is None:
        known = ", ".join(catalog.pipelines)
        raise Fault(404, f"there is no such model here; there is: {known}", "model_not_found", "model")
    return pipeline


def max_pixels(settings: Settings, config: Config) -> int:
    """Of one picture."""
    return settings.max_pixels or min(MAX_SIDE**2, 16 * config.net.resolution**2)


def max_cost(settings: Settings, config: Config) -> float:
    """Of one request."""
    most = cost_of(MAX_PICTURES, 4 * config.net.resolution**2, settings.max_steps, True)
    return settings.max_cost or most


def to_request(
    ask: Ask,
    pipeline: Pipeline,
    settings: Settings,
    init_image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> Request:
    """Complete and check what is asked for; the i-th picture has the seed given and index i. Raises Fault."""
    width, height = _sides(ask, pipeline.config)
    num = ask.n or 1
    seed = secrets.randbelow(2**32) if ask.seed in (None, -1) else ask.seed
    assert seed is not None
    if ask.sampler is not None and ask.sampler not in SAMPLERS:
        raise invalid(f"sampler must be one of {', '.join(SAMPLERS)}", "sampler")
    if ask.invert is not None and init_image is None:
        raise invalid("invert needs a picture to lead back", "invert")
    if ask.steps is not None and ask.steps > settings.max_steps:
        raise invalid(f"steps must be from 1 to {settings.max_steps} here", "steps")
    pixels = max_pixels(settings, pipeline.config)
    if (width or 1) * (height or 1) > pixels:
        side = int(pixels**0.5)
        raise invalid(f"size must be at most {pixels} pixels, such as {side}x{side}", "size")
    first = ask.index or 0
    try:
        request = pipeline.request(
            [ask.prompt] * num,
            seeds=[seed] * num,
            indices=range(first, first + num),
            steps=ask.steps,
            guidance=ask.guidance,
            sampler=ask.sampler,
            negative=ask.negative,
            init_image=init_image,
            strength=ask.strength if init_image is not None else None,
            mask=mask,
            invert=ask.invert,
            width=width,
            height=height,
        )
    except ConfigError as error:
        name = str(error).partition(" ")[0]
        raise invalid(str(error), "size" if name in ("width", "height") else name) from None
    if Making(pipeline, request).cost > max_cost(settings, pipeline.config):
        raise invalid("n times size times steps is more than one request may ask for here", "n", "request_too_large")
    return request


def _sides(ask: Ask, config: Config) -> tuple[int | None, int | None]:
    if ask.size in (None, "auto", ""):
        return ask.width, ask.height
    found = SIZE.fullmatch(str(ask.size))
    net = config.net
    if found is None:
        raise invalid(
            f'size must be "auto" or WIDTHxHEIGHT in multiples of {net.patch}, such as '
            f'"{net.resolution}x{net.resolution}"',
            "size",
        )
    return int(found[1]), int(found[2])
