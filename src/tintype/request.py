"""What pictures are asked for: every option of making one, completed from the model's own settings and checked."""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import SupportsIndex, TypedDict

from PIL import Image, ImageOps

from tintype.config import Config
from tintype.errors import ConfigError

MAX_SIDE = 2048  # pixels
MAX_STEPS = 1000
MAX_GUIDANCE = 100.0
MAX_SEED = 2**63 - 1
MAX_INDEX = 2**32 - 1
MIN_STRENGTH = 0.01
STRENGTH = 0.6  # of the noise put on an init_image unless told otherwise


class Options(TypedDict, total=False):
    """The options of `Pipeline.generate`, which explains them."""

    seeds: int | Sequence[int] | None
    indices: Sequence[int] | None
    steps: int | None
    guidance: float | None
    sampler: str | None
    negative: str | None
    init_image: Image.Image | None
    strength: float | None
    mask: Image.Image | None
    width: int | None
    height: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a number of pictures is made from: complete and checked. Made by `Pipeline.request`."""

    captions: tuple[str, ...]  # one per picture
    seeds: tuple[int, ...]  # the starting noise of a picture is drawn from its seed and index
    indices: tuple[int, ...]
    steps: int
    guidance: float
    sampler: str
    negative: str
    width: int
    height: int
    strength: float
    init_image: Image.Image | None  # RGB, width x height
    mask: Image.Image | None  # L, width x height; white is repainted, black is kept

    def __len__(self) -> int:
        return len(self.captions)

    def parts(self, size: int) -> Iterator[Request]:
        """The same pictures, at most `size` at a time."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield replace(self, captions=self.captions[rows], seeds=self.seeds[rows], indices=self.indices[rows])


def make_request(
    config: Config,
    samplers: Collection[str],
    captions: str | Sequence[str],
    *,
    seeds: int | Sequence[int] | None = None,
    indices: Sequence[int] | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    sampler: str | None = None,
    negative: str | None = None,
    init_image: Image.Image | None = None,
    strength: float | None = None,
    mask: Image.Image | None = None,
    width: int | None = None,
    height: int | None = None,
) -> Request:
    """Complete what is None from the model's own settings and check everything. Raises ConfigError."""
    texts = (captions,) if isinstance(captions, str) else tuple(captions)
    own, net = config.sample, config.net
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ConfigError("captions must be a text or a list of at least one text")
    name = own.sampler if sampler is None else sampler
    if name not in samplers:
        raise ConfigError(f"sampler must be one of {', '.join(samplers)}, not {name!r}")
    if init_image is None and (strength is not None or mask is not None):
        raise ConfigError("strength and mask change a picture: they need an init_image")
    if negative is not None and not isinstance(negative, str):
        raise ConfigError(f"negative must be a text, not {negative!r}")
    across = _side("width", net.resolution if width is None else width, net.patch)
    down = _side("height", net.resolution if height is None else height, net.patch)
    share = STRENGTH if strength is None else strength
    return Request(
        captions=texts,
        seeds=_seeds(seeds, len(texts)),
        indices=_indices(indices, seeds, len(texts)),
        steps=_whole("steps", own.steps if steps is None else steps, 1, MAX_STEPS),
        guidance=_number("guidance", own.guidance if guidance is None else guidance, 0, MAX_GUIDANCE),
        sampler=name,
        negative=negative or "",
        width=across,
        height=down,
        strength=1.0 if init_image is None else _number("strength", share, MIN_STRENGTH, 1),
        init_image=None if init_image is None else fitted(init_image, "RGB", across, down),
        mask=None if mask is None else fitted(mask, "L", across, down),
    )


def fitted(picture: Image.Image, mode: str, width: int, height: int) -> Image.Image:
    """Upright, without transparency (over white), cut and scaled to width x height."""
    upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    if upright.size != (width, height):
        upright = ImageOps.fit(upright.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    return upright.convert(mode)


def digest(picture: Image.Image | None) -> str:
    """sha256 of the pixels of a fitted picture; "" for none."""
    return "" if picture is None else hashlib.sha256(picture.tobytes()).hexdigest()


def _seeds(seeds: int | Sequence[int] | None, num: int) -> tuple[int, ...]:
    given: Sequence[int]
    if seeds is None:
        given = [0] * num
    else:
        given = seeds if isinstance(seeds, Sequence) else [seeds] * num
    if len(given) != num:
        raise ConfigError(f"there must be one seed per caption: {num}, not {len(given)}")
    return tuple(_whole("seed", seed, 0, MAX_SEED) for seed in given)


def _indices(indices: Sequence[int] | None, seeds: int | Sequence[int] | None, num: int) -> tuple[int, ...]:
    if indices is None:
        return (0,) * num if isinstance(seeds, Sequence) else tuple(range(num))
    if len(indices) != num:
        raise ConfigError(f"there must be one index per caption: {num}, not {len(indices)}")
    return tuple(_whole("index", index, 0, MAX_INDEX) for index in indices)


def _whole(name: str, value: SupportsIndex, low: int, high: int) -> int:
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, not {value!r}")
    return number


def _number(name: str, value: float, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name} must be a number, not {value!r}")
    if not low <= value <= high:
        raise ConfigError(f"{name} must be between {low:g} and {high:g}, not {value:g}")
    return float(value)


def _side(name: str, value: SupportsIndex, patch: int) -> int:
    number = _whole(name, value, patch, MAX_SIDE)
    if number % patch:
        raise ConfigError(f"{name} must be a multiple of {patch} for this model, not {number}")
    return number
