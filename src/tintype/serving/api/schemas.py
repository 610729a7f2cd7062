"""Request bodies. Types are strict, null counts as absent, unknown fields are ignored with a warning."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from tintype.diffusion.samplers import SAMPLERS
from tintype.diffusion.sigmas import SCHEDULES
from tintype.export import options as export_options
from tintype.pipeline.limits import (
    MAX_CAPTION,
    MAX_GUIDANCE,
    MAX_INDEX,
    MAX_SEED,
    MAX_SIDE,
    MAX_SIGMA,
    MAX_STEPS,
    MIN_STRENGTH,
    OLDER_NAMES,
)
from tintype.printable import one_line
from tintype.serving.api.errors import bad_request, from_validation
from tintype.serving.settings import MAX_PICTURES

MAX_PARTIAL = 100
MAX_LEVELS = 24
MAX_NAME = 40  # characters
MAX_UNKNOWN = 5  # unknown fields that a warning names


def _alias(names: tuple[str, ...]) -> AliasChoices | None:
    """The names of a field for clients; the schema shows the first."""
    return AliasChoices(*names) if names else None


def _with_older(name: str) -> AliasChoices:
    """A sampling option's name, and its older name."""
    return AliasChoices(name, OLDER_NAMES[name])


def _integer(low: int, high: int, *names: str) -> Any:
    return Field(None, strict=True, ge=low, le=high, validation_alias=_alias(names))


def _number(low: float, high: float, *names: str) -> Any:
    return Field(None, strict=True, ge=low, le=high, allow_inf_nan=False, validation_alias=_alias(names))


def _text(max_length: int, *names: str) -> Any:
    return Field(None, max_length=max_length, validation_alias=_alias(names))


def _one_of(choices: Collection[str]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return AfterValidator(check)


Sigma = Annotated[StrictInt | StrictFloat, Field(ge=0, le=MAX_SIGMA, allow_inf_nan=False)]


class SamplingBody(BaseModel):
    """Sampling options: each field is the option of `Pipeline.generate` with that name, and is passed to it.

    A new option needs a field here and nothing else.
    """

    steps: int | None = _integer(1, MAX_STEPS, "num_inference_steps", "steps")
    guidance: float | None = _number(0, MAX_GUIDANCE, "guidance_scale", "guidance", "cfg_scale", "cfg")
    guidance_interval: tuple[Sigma, Sigma] | None = Field(
        None,
        validation_alias=_with_older("guidance_interval"),
        description="Lowest and highest noise level at which guidance acts.",
    )
    negative_prompt: StrictStr | None = Field(
        None, max_length=MAX_CAPTION, validation_alias=_with_older("negative_prompt")
    )
    sampler: Annotated[StrictStr, _one_of(SAMPLERS)] | None = _text(MAX_NAME, "sampler", "scheduler")
    schedule: Annotated[StrictStr, _one_of(SCHEDULES)] | None = Field(
        None,
        max_length=MAX_NAME,
        validation_alias=_with_older("schedule"),
        description="Spacing of the steps' noise levels.",
    )
    strength: float | None = _number(MIN_STRENGTH, 1)
    source_caption: StrictStr | None = Field(
        None,
        max_length=MAX_CAPTION,
        validation_alias=_with_older("source_caption"),
        description="The caption of the input image: invert the image to its noise instead of adding noise to it.",
    )
    avoid_copies: StrictBool | None = Field(
        None, description="Steer away from the training pictures; needs the copy index of the model."
    )
    width: int | None = _integer(1, MAX_SIDE)
    height: int | None = _integer(1, MAX_SIDE)
    enlarge: StrictBool | None = Field(
        None, description="Make the picture at the model's own size and enlarge it to the size of the request."
    )


class GenerateBody(SamplingBody):
    """Fields of every request for pictures."""

    # A picture larger than so many sides of the model's resolution, or of a size that the server would refuse, is made
    # at the model's own size and enlarged, although the client did not ask for it. None: such a size is refused.
    enlarges_beyond: ClassVar[float | None] = None

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    prompt: Annotated[StrictStr, Field(max_length=MAX_CAPTION, description="The caption; empty for any picture.")]
    model: StrictStr | None = _text(200)
    n: int | None = _integer(1, MAX_PICTURES)
    size: StrictStr | None = Field(None, max_length=20, description='Such as "64x64", or "auto".')
    seed: int | None = _integer(-1, MAX_SEED)
    index: int | None = _integer(0, MAX_INDEX - MAX_PICTURES)

    _older_names: Mapping[str, str] = PrivateAttr({})  # new -> older name, where the client sent the older one
    _unknown: tuple[str, ...] = PrivateAttr(())  # fields that mean nothing here

    @model_validator(mode="wrap")
    @classmethod
    def _one_value(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse an option under both its names with different values; raises ApiError."""
        if not isinstance(values, dict):
            return handler(values)
        options = SamplingBody.model_fields
        older_names = {new: old for new, old in OLDER_NAMES.items() if new in options and values.get(old) is not None}
        for new, old in older_names.items():
            if values.get(new) is None:  # null counts as absent
                values = {name: value for name, value in values.items() if name != new}
            elif values[new] != values[old]:
                raise bad_request(f"{old} is the older name of {new}; send {new} alone", new)
        body = handler(values)
        body._older_names = older_names
        body._unknown = tuple(sorted(map(str, set(values) - cls.field_names())))
        return body

    @classmethod
    def field_names(cls) -> set[str]:
        """Every name under which a client may send a field."""
        aliases = (field.validation_alias for field in cls.model_fields.values())
        names = {str(name) for alias in aliases if isinstance(alias, AliasChoices) for name in alias.choices}
        return {*cls.model_fields, *names}

    def notes(self) -> list[str]:
        """A note about the fields that are not used, if there are any."""
        if not self._unknown:
            return []
        names = ", ".join(one_line(name)[:MAX_NAME] for name in self._unknown[:MAX_UNKNOWN])
        more = f" and {len(self._unknown) - MAX_UNKNOWN} more" if len(self._unknown) > MAX_UNKNOWN else ""
        return [f"fields that this server does not know were not used: {names}{more}"]

    def param(self, option: str) -> str:
        """The name under which the client sent a sampling option."""
        return self._older_names.get(option, option)


class ImagesBody(GenerateBody):
    """Body of POST /v1/images/generations: the OpenAI images API, with the usual fields of diffusion servers."""

    enlarges_beyond = math.inf

    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png", "webp", "jpeg"] | None = None
    output_compression: int | None = _integer(0, 100)
    background: Literal["auto", "opaque"] | None = None
    stream: StrictBool | None = None
    partial_images: int | None = _integer(0, MAX_PARTIAL)
    preview_every: int | None = _integer(1, MAX_STEPS)
    # These do not change the picture. They are listed so that a value of the wrong type is an error.
    quality: StrictStr | None = _text(40)
    user: StrictStr | None = _text(1000)


class JobBody(GenerateBody):
    """Body of POST /api/jobs."""

    init_image: StrictStr | None = Field(None, description="The image to start from: base64, or a data: URL.")
    mask: StrictStr | None = Field(None, description="White, or transparent, where to repaint the init_image.")


class ExportBody(BaseModel):
    """Body of POST /api/exports: a model as a file to give away."""

    model_config = ConfigDict(extra="ignore")

    model: StrictStr | None = _text(200)
    to: Annotated[StrictStr, Field(max_length=20, description="A form of `tintype export`: folder, page, ...")]
    name: StrictStr | None = _text(export_options.MAX_NAME)
    license: StrictStr | None = _text(64)


class NoiseLevelsBody(BaseModel):
    """Body of POST /api/look: add noise to an image at many levels and denoise it at each."""

    model_config = ConfigDict(extra="ignore")

    image: StrictStr
    prompt: Annotated[StrictStr, Field(max_length=MAX_CAPTION)] = ""
    model: StrictStr | None = _text(200)
    seed: int | None = _integer(0, MAX_SEED)
    levels: int | None = _integer(2, MAX_LEVELS)


class ReceiptBody(BaseModel):
    """Body of POST /api/receipt."""

    image: StrictStr


def from_form(fields: dict[str, str]) -> ImagesBody:
    """The fields of a form, whose values are all text, as an ImagesBody. Raises ApiError."""
    values = {name: text if name in _TEXT_NAMES else _parse(text) for name, text in fields.items()}
    try:
        return _FORM.validate_python(values)
    except ValidationError as error:
        raise from_validation(error.errors(include_url=False, include_input=False)) from None


def _parse(text: str) -> Any:
    """A whole number, a number, a pair of numbers LOW,HIGH, a boolean, or else the text itself."""
    if re.fullmatch(r"-?[0-9]{1,30}", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"-?[0-9]{0,30}\.?[0-9]{1,30}([eE][+-]?[0-9]{1,3})?", text, re.ASCII):
        return float(text)
    if re.fullmatch(r"[-+.eE0-9]{1,40},[-+.eE0-9]{1,40}", text, re.ASCII):
        return tuple(map(_parse, text.split(",")))
    return text.lower() == "true" if text.lower() in ("true", "false") else text


def _text_names() -> set[str]:
    """Every name of every field that is a text."""
    names = set()
    for name, field in ImagesBody.model_fields.items():
        if field.annotation is str or StrictStr in get_args(field.annotation):
            alias = field.validation_alias
            names |= {name, *(map(str, alias.choices) if isinstance(alias, AliasChoices) else ())}
    return names


_FORM = TypeAdapter(ImagesBody)
_TEXT_NAMES = _text_names()
