"""Request bodies of A1111's API. Numbers may be texts, as clients send them; null and "" count as absent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from tintype.config import Config
from tintype.pipeline.limits import MAX_CAPTION, MAX_GUIDANCE, MAX_SEED, MAX_SIDE, MAX_STEPS, MIN_STRENGTH
from tintype.pipeline.notes import LARGE
from tintype.serving.api.a1111.names import method
from tintype.serving.api.errors import bad_request
from tintype.serving.api.schemas import GenerateBody
from tintype.serving.settings import MAX_PICTURES

USUAL_CFG_SCALE = 7.0  # A1111's default, which most clients send unasked
MAX_INIT_IMAGES = 16  # that a body may hold; one is used
Name = Annotated[str, StringConstraints(max_length=200)]
Side = Annotated[int, Field(ge=0, le=MAX_SIDE)]  # 0: not given


class PictureBody(GenerateBody):
    """A request for pictures whose client thinks of models of 512 pixels and more."""

    enlarges_beyond = LARGE


class Lenient(BaseModel):
    """A body in which unknown fields are ignored, and null and "" count as absent."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value is not None and value != ""}


class OptionsBody(Lenient):
    """Body of POST /sdapi/v1/options, and `override_settings`: only the model can be chosen."""

    sd_model_checkpoint: Name | None = None


class ImageBody(Lenient):
    """Body of POST /sdapi/v1/png-info."""

    image: str


class Txt2ImgBody(Lenient):
    """Body of POST /sdapi/v1/txt2img."""

    prompt: Annotated[str, StringConstraints(max_length=MAX_CAPTION)] = ""
    negative_prompt: Annotated[str, StringConstraints(max_length=MAX_CAPTION)] = ""
    seed: Annotated[int, Field(ge=-1, le=MAX_SEED - MAX_PICTURES)] | None = None
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None
    cfg_scale: Annotated[float, Field(ge=0, le=MAX_GUIDANCE)] | None = None
    width: Side = 0
    height: Side = 0
    batch_size: Annotated[int, Field(ge=1, le=MAX_PICTURES)] = 1
    n_iter: Annotated[int, Field(ge=1, le=MAX_PICTURES)] = 1
    sampler_name: Name | None = None
    sampler_index: Name | None = None
    scheduler: Name | None = None
    enable_hr: bool = False
    hr_scale: Annotated[float, Field(ge=1, le=8)] = 2.0
    hr_resize_x: Side = 0
    hr_resize_y: Side = 0
    override_settings: OptionsBody = OptionsBody()
    send_images: bool = True
    # These cannot be done here: a note says so, where they would change the picture.
    restore_faces: bool = False
    tiling: bool = False
    subseed_strength: float = 0.0
    styles: list[Name | None] = []
    alwayson_scripts: dict[str, Any] = {}
    script_name: Name | None = None

    @property
    def num(self) -> int:
        """Number of pictures."""
        return self.batch_size * self.n_iter

    def size(self) -> tuple[int | None, int | None]:
        """Width and height of the finished picture; None where the client leaves it to the model. Raises ApiError."""
        width, height = self.width, self.height
        if self.enable_hr and self.hr_resize_x and self.hr_resize_y:
            width, height = self.hr_resize_x, self.hr_resize_y
        elif self.enable_hr:
            width, height = round(width * self.hr_scale), round(height * self.hr_scale)
        if max(width, height) > MAX_SIDE:
            raise bad_request(f"a side must have at most {MAX_SIDE} pixels, with hr_scale", "width")
        return width or None, height or None

    def generate_body(self, model: str, config: Config) -> tuple[PictureBody, list[str]]:
        """The same in the server's own terms, and notes about what is done otherwise. Raises ApiError."""
        if self.num > MAX_PICTURES:
            raise bad_request(f"batch_size times n_iter must be at most {MAX_PICTURES}", "batch_size")
        if self.script_name is not None and self.script_name.lower() != "none":
            raise bad_request("this server has no scripts", "script_name")
        sampler, schedule, notes = method(self.sampler_name or self.sampler_index, self.scheduler)
        steps, guidance = self.steps, guidance_of(self.cfg_scale, config.sample.guidance)
        if config.distill.steps:
            sampler = schedule = steps = guidance = None
            notes = ("this model is distilled: its own steps, sampler and guidance were used",)
        width, height = self.size()
        fields = {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "model": model,
            "n": self.num,
            "seed": self.seed,
            "steps": steps,
            "guidance": guidance,
            "sampler": sampler,
            "schedule": schedule,
            "width": width,
            "height": height,
        }
        body = PictureBody.model_validate(fields)
        return body, [*notes, *self._notes()]

    def _notes(self) -> list[str]:
        """What of the request is not done here."""
        left_out = {
            "restore_faces": self.restore_faces,
            "tiling": self.tiling,
            "subseed_strength": self.subseed_strength,
            "styles": any(style not in ("", "None", None) for style in self.styles),
            "alwayson_scripts": self.alwayson_scripts,
        }
        names = [name for name, is_asked in left_out.items() if is_asked]
        return [f"this server has no {', '.join(names)}"] if names else []


class Img2ImgBody(Txt2ImgBody):
    """Body of POST /sdapi/v1/img2img."""

    init_images: Annotated[list[str], Field(max_length=MAX_INIT_IMAGES)] = []
    mask: str | None = None
    mask_blur: Annotated[int, Field(ge=0, le=256)] = 4  # pixels of the picture that the client asks for
    inpainting_mask_invert: bool = False
    inpainting_fill: int = 1
    inpaint_full_res: bool = False
    denoising_strength: Annotated[float, Field(ge=0, le=1)] = 0.75
    resize_mode: Literal[0, 1, 2, 3] = 0
    include_init_images: bool = False

    def generate_body(self, model: str, config: Config) -> tuple[PictureBody, list[str]]:
        body, notes = super().generate_body(model, config)
        return body.model_copy(update={"strength": max(MIN_STRENGTH, self.denoising_strength)}), notes

    def _notes(self) -> list[str]:
        notes = super()._notes()
        if len(self.init_images) > 1:
            notes.append("only the first of init_images was used")
        if self.mask is not None and (self.inpaint_full_res or self.inpainting_fill != 1):
            notes.append("a masked part starts from the picture itself, and in the whole picture")
        if self.resize_mode == 2:
            notes.append("the picture was cut to fit, not filled up")
        return notes


def guidance_of(cfg_scale: float | None, own: float) -> float | None:
    """The guidance scale for a `cfg_scale`, which clients give on the scale of large models.

    Their usual 7 means the model's `own` scale, 1 no guidance; the rest lies on the line through both. So clients that
    always send 7 get the model's best pictures, and a model with guidance built in (own scale 1) gets no more of it.
    """
    if cfg_scale is None:
        return None
    return min(MAX_GUIDANCE, max(0.0, 1 + (own - 1) * (cfg_scale - 1) / (USUAL_CFG_SCALE - 1)))


def cfg_scale_of(guidance: float, own: float) -> float:
    """The `cfg_scale` of a guidance scale: the inverse of `guidance_of`."""
    return USUAL_CFG_SCALE if own == 1 else round(1 + (guidance - 1) * (USUAL_CFG_SCALE - 1) / (own - 1), 4)
