"""What made a picture, inside the picture: PNG text `parameters` (the common WebUI form) and `tintype` (JSON)."""

from __future__ import annotations

import dataclasses
import json
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, get_args, get_type_hints

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tintype._version import __version__
from tintype.errors import DataError
from tintype.pipeline.init_image import digest
from tintype.pipeline.request import Request

FORMAT = 1  # of the JSON; raised when an older Tintype could no longer read it


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """Everything needed to make one picture again with the same model."""

    caption: str
    negative: str = ""
    seed: int
    index: int = 0  # the starting noise is drawn from (seed, index)
    steps: int
    guidance: float
    sampler: str
    width: int  # pixels
    height: int
    model: str  # a name for people; `model_hash` says which weights
    model_hash: str  # sha256 of model.safetensors
    version: str  # of Tintype
    strength: float = 1.0  # below 1 only with an init_image
    init_image: str = ""  # sha256 of the picture it started from, as pixels at this size
    mask: str = ""  # sha256 of the mask, likewise
    outpaint: str = ""  # margins that were painted around it: left, top, right, bottom
    invert: str | None = None  # the caption under which it was led back to noise
    guidance_min: float = 0.2  # guidance acted on noise levels between these two
    guidance_max: float = 80.0
    grid: str = "log_snr"
    center: float = 0.7  # sigma around which the grid's steps are, for grids that have one
    spread: float = 1.1  # and how widely
    guide: str = ""  # a name of the weaker model that guided it; "": the same model without the caption did
    guide_hash: str = ""
    share: float = 0.0  # of what was mixed in: another caption, the starting noise of another seed and index
    caption_to: str | None = None
    seed_to: int | None = None
    index_to: int = 0

    def to_json(self) -> str:
        values = {k: clean(v) if isinstance(v, str) else v for k, v in dataclasses.asdict(self).items()}
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
            elif type(value) not in allowed:
                raise DataError(f"its receipt has an entry that this version does not understand: {name}")
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
        entries["Version"] = f"tintype {self.version}"
        lines = [self.caption]
        if self.negative:
            lines.append(f"Negative prompt: {self.negative}")
        lines.append(", ".join(f"{name}: {value}" for name, value in entries.items()))
        return clean("\n".join(lines))


def receipts_of(request: Request, model: tuple[str, str], guide: tuple[str, str] | None = None) -> list[Receipt]:
    """A receipt for each picture of a request, with names and hashes of the model and its guide."""
    guide_name, guide_hash = guide or ("", "")
    return [
        Receipt(
            caption=caption,
            negative=request.negative,
            seed=seed,
            index=index,
            steps=request.steps,
            guidance=guidance,
            guidance_min=request.interval[0],
            guidance_max=request.interval[1],
            sampler=request.sampler,
            grid=request.grid,
            center=request.center,
            spread=request.spread,
            width=request.width,
            height=request.height,
            model=model[0],
            model_hash=model[1],
            guide=guide_name,
            guide_hash=guide_hash,
            version=__version__,
            strength=request.strength,
            init_image=digest(request.init_image),
            mask=digest(request.mask),
            outpaint=" ".join(map(str, request.outpaint)) if any(request.outpaint) else "",
            invert=request.invert,
            share=request.shares[place],
            caption_to=request.captions_to[place] if request.captions_to else None,
            seed_to=request.seeds_to[place] if request.seeds_to else None,
            index_to=request.indices_to[place] if request.indices_to else 0,
        )
        for place, (caption, seed, index, guidance) in enumerate(
            zip(request.captions, request.seeds, request.indices, request.guidance, strict=True)
        )
    ]


def clean(text: str) -> str:
    """`text` without what no file can hold: lone surrogates (bytes that were no UTF-8) and NUL."""
    return text.encode("utf-8", "ignore").decode("utf-8").replace("\0", "")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ',:\n"') else text


def to_png(picture: Image.Image, receipt: Receipt | None) -> bytes:
    """The picture as a PNG file with its receipt inside."""
    info = PngInfo()
    if receipt is not None:
        info.add_text("parameters", receipt.parameters())
        info.add_text("tintype", receipt.to_json())
    buffer = BytesIO()
    picture.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def read_texts(path: Path) -> dict[str, str]:
    """The PNG texts of a picture by name; pixels are not decoded. Raises DataError if it is not a readable PNG."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # only the header is read
            with Image.open(path, formats=["PNG"]) as picture:
                texts: dict[Any, Any] = dict(picture.info)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise DataError(f"{path} is not a PNG picture that can be read; only PNG files carry receipts") from None
    return {str(k): str(v) for k, v in texts.items() if isinstance(v, str)}


def read(path: Path) -> Receipt:
    """The receipt inside a picture. Raises DataError, saying why, if there is none."""
    texts = read_texts(path)
    if "tintype" not in texts:
        raise DataError(f"{path} carries no Tintype receipt: it was not made by Tintype, or was saved again since")
    try:
        return Receipt.from_json(texts["tintype"])
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
