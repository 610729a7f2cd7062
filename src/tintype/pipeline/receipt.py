"""Receipts: what made a picture, stored inside it as `parameters` (the common WebUI form) and `tintype` (JSON)."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_args, get_type_hints

from PIL import Image

from tintype._version import __version__
from tintype.errors import ConfigError, DataError
from tintype.pipeline.init_image import digest
from tintype.pipeline.limits import MAX_SEED
from tintype.pipeline.request import Options, PlainOptions, Request

T = TypeVar("T")

FORMAT = 1  # of the JSON; raised when an older Tintype could no longer read it
MAX_NAME = 1000  # characters of a name or a hash
MAX_GRID = 32_000  # of a schedule: up to 1001 noise levels
_CAPTIONS = ("caption", "negative", "invert", "caption_to")  # a request checks how long these are


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt(PlainOptions):
    """Everything needed to make one picture again with the same model: what `tintype redo` reads from a picture.

    request = pipeline.request("a red circle", seeds=7)
    receipt = pipeline.receipts(request)[0]
    print(receipt.caption, receipt.seed, receipt.sampler)
    """

    caption: str
    negative: str = ""
    seed: int
    index: int = 0  # the starting noise is drawn from (seed, index)
    guidance: float
    sampler: str  # its name, or a function's name with a dot
    model: str  # a name for people; `model_hash` says which weights
    model_hash: str  # sha256 of model.safetensors
    version: str  # of Tintype
    strength: float = 1.0  # below 1 only with an init_image
    init_image: str = ""  # sha256 of the picture it started from, as pixels at this size
    mask: str = ""  # sha256 of the mask, likewise
    outpaint: str = ""  # pixels painted around it: left, top, right, bottom
    invert: str | None = None  # the source caption, under which it was inverted
    guidance_min: float = 0.2  # guidance acted on noise levels between these two
    guidance_max: float = 80.0
    grid: str = "log_snr"  # the schedule: its name, a function's name with a dot, or noise levels between spaces
    guide: str = ""  # name of the weaker model that guided it; "": the model itself without the caption
    guide_hash: str = ""
    share: float = 0.0  # mix weight of caption_to and of the starting noise of seed_to and index_to
    caption_to: str | None = None
    seed_to: int | None = None
    index_to: int = 0
    precision: str = ""  # to which the weights were rounded; "": they are those of model_hash
    avoid_copies: str = ""  # sha256 of the copy index that it was steered away from; "": it was not
    engine: str = ""  # of an exported page: webgpu, wasm or javascript; "": PyTorch

    def to_json(self) -> str:
        values = {k: clean(v) if isinstance(v, str) else v for k, v in dataclasses.asdict(self).items()}
        for name in (
            "enlarge",
            "precision",
            "engine",
            "avoid_copies",
        ):  # so that versions without them can read all other receipts
            if not values[name]:
                del values[name]
        return json.dumps({"format": FORMAT, **values})

    @classmethod
    def from_json(cls, text: str) -> Receipt:
        """Read `to_json` output. Raises DataError for anything else."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise DataError("its receipt is not JSON: the picture was changed by another program") from None
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise DataError("its receipt is of another format: it needs another version of Tintype")
        hints = get_type_hints(cls)
        for name, value in values.items():
            allowed = get_args(hints.get(name)) or (hints.get(name),)
            if float in allowed and type(value) is int and abs(value) < 2**53:
                values[name] = float(value)
            elif type(value) not in allowed or not _is_usual(name, value):
                raise DataError(f"its receipt has an entry that this version does not understand: {name[:MAX_NAME]}")
            elif isinstance(value, str):
                values[name] = clean(value)
        missing = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING and f.name not in values]
        if missing:
            raise DataError(f"its receipt does not say the {missing[0]}")
        return cls(**values)

    def parameters(self) -> str:
        """The form that other programs for generated pictures read and show."""
        entries: dict[str, object] = {
            "Steps": self.steps,
            "Sampler": self.sampler,
            "CFG scale": f"{self.guidance:g}",
            "Seed": self.seed,
            "Size": f"{self.width}x{self.height}",
            "Model hash": self.model_hash[:10],
            "Model": _quoted(self.model),
        }
        if self.index:
            entries["Index"] = self.index
        if self.seed_to is not None and self.share:
            entries["Variation seed"] = f"{self.seed_to}:{self.index_to}" if self.index_to else self.seed_to
            entries["Variation seed strength"] = f"{self.share:g}"
        if self.init_image:
            entries["Denoising strength"] = f"{self.strength:g}"
        if self.enlarge:
            size, _, resampler = self.enlarge.partition(" ")
            entries |= {"Hires resize": size, "Hires upscaler": resampler.title()}
        if self.precision:
            entries["Precision"] = self.precision
        entries["Version"] = f"tintype {self.version}"
        lines = [self.caption]
        if self.negative:
            lines.append(f"Negative prompt: {self.negative}")
        lines.append(", ".join(f"{name}: {value}" for name, value in entries.items()))
        return clean("\n".join(lines))


def _is_usual(name: str, value: object) -> bool:
    """Whether a value is one that a receipt can have; a stranger may have written this one."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) <= MAX_SEED
    return not isinstance(value, str) or name in _CAPTIONS or len(value) <= (MAX_GRID if name == "grid" else MAX_NAME)


def receipts_of(
    request: Request, model: tuple[str, str], guide: tuple[str, str] | None = None, copy_index: str = ""
) -> list[Receipt]:
    """A receipt for each picture of a request, with names and hashes of the model and its guide.

    copy_index: sha256 of the index that the pictures are steered away from; "": they are not.
    """
    guide_name, guide_hash = guide or ("", "")
    return [
        Receipt(
            caption=caption,
            negative=request.negative_prompt,
            seed=seed,
            index=index,
            guidance=guidance,
            guidance_min=request.guidance_interval[0],
            guidance_max=request.guidance_interval[1],
            sampler=_name(request.sampler),
            grid=_schedule_name(request.schedule),
            model=model[0],
            model_hash=model[1],
            guide=guide_name,
            guide_hash=guide_hash,
            version=__version__,
            strength=request.strength,
            init_image=digest(request.init_image),
            mask=digest(request.mask),
            outpaint=" ".join(map(str, request.outpaint)) if any(request.outpaint) else "",
            invert=request.source_caption,
            share=request.mix_weights[i],
            caption_to=request.captions_to[i] if request.captions_to else None,
            seed_to=request.seeds_to[i] if request.seeds_to else None,
            index_to=request.indices_to[i] if request.indices_to else 0,
            avoid_copies=copy_index,
            **_plain_options(request),
        )
        for i, (caption, seed, index, guidance) in enumerate(
            zip(request.captions, request.seeds, request.indices, request.guidance, strict=True)
        )
    ]


def options_of(receipt: Receipt, init_image: Image.Image | None = None, mask: Image.Image | None = None) -> Options:
    """The options of `Pipeline.generate` that make the picture again, for the caption of the receipt.

    init_image, mask: those that the picture was made from. Raises ConfigError if it was made with a function, or the
    receipt has values that no request has.
    """
    for option, name in (("sampler", receipt.sampler), ("schedule", receipt.grid)):
        if "." in name and not _is_levels(name):
            raise ConfigError(
                f"the {option} of this picture is the Python function {name}, which is not in its receipt; make the "
                f"picture again from Python with that function"
            )
    mixes = receipt.caption_to is not None or receipt.seed_to is not None
    return Options(
        seeds=[receipt.seed],
        indices=[receipt.index],
        guidance=receipt.guidance,
        guidance_interval=(receipt.guidance_min, receipt.guidance_max),
        sampler=receipt.sampler,
        schedule=_numbers("schedule", receipt.grid, float) if _is_levels(receipt.grid) else receipt.grid,
        negative_prompt=receipt.negative,
        init_image=init_image,
        strength=receipt.strength if receipt.init_image else None,
        mask=mask,
        outpaint=_numbers("outpaint", receipt.outpaint, int) or None,
        source_caption=receipt.invert,
        captions_to=None if receipt.caption_to is None else [receipt.caption_to],
        seeds_to=None if receipt.seed_to is None else [receipt.seed_to],
        indices_to=None if receipt.seed_to is None else [receipt.index_to],
        mix_weights=[receipt.share] if mixes else None,
        avoid_copies=True if receipt.avoid_copies else None,
        **cast(Options, _plain_options(receipt)),
    )


def _numbers(option: str, text: str, number_of: Callable[[str], T]) -> list[T]:
    """The numbers between spaces in an entry of a receipt. Raises ConfigError."""
    try:
        return [number_of(word) for word in text.split()]
    except ValueError:
        message = f"the {option} of this picture is not numbers: its receipt was changed; use tintype generate"
        raise ConfigError(message) from None


def _plain_options(source: PlainOptions) -> dict[str, Any]:
    return {entry.name: getattr(source, entry.name) for entry in dataclasses.fields(PlainOptions)}


def _name(value: object) -> str:
    """A name as it is; module and qualified name of a function, or of the class of another callable."""
    if isinstance(value, str):
        return value
    owner = value if hasattr(value, "__qualname__") else type(value)
    return f"{owner.__module__}.{owner.__qualname__}"


def _schedule_name(schedule: object) -> str:
    """Likewise; noise levels are written out."""
    return " ".join(map(repr, schedule)) if isinstance(schedule, tuple) else _name(schedule)


def _is_levels(schedule: str) -> bool:
    """Whether a schedule's name is noise levels, written out."""
    return " " in schedule


def clean(text: str) -> str:
    """`text` without what no file can hold: lone surrogates (bytes that were no UTF-8) and NUL."""
    return text.encode("utf-8", "ignore").decode("utf-8").replace("\0", "")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ',:\n"') else text
