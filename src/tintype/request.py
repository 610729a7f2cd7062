"""What pictures are asked for: every option of making one, completed from the model's own settings and checked."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from PIL import Image

from tintype.canvas import Margins, canvas
from tintype.canvas import fitted as fitted
from tintype.checks import number, side, whole
from tintype.config import Config
from tintype.errors import ConfigError

MAX_SIDE = 2048  # pixels
MAX_STEPS = 1000
MAX_GUIDANCE = 100.0
MAX_SEED = 2**63 - 1
MAX_INDEX = 2**32 - 1
MAX_CAPTION = 10_000  # characters
MAX_SIGMA = 1e6
MIN_STRENGTH = 0.01
STRENGTH = 0.6  # of the noise put on an init_image unless told otherwise
INVERT = (24, "reference", "log_snr")  # steps (each takes four evaluations, twice), sampler and grid to lead back with

# A polynomial through many answers of strong guidance swings: measured on exact mixtures, from scale 5 on deis_4 is the
# worst of all. unipc, which corrects itself, needs no stepping back.
STRONG_GUIDANCE = 4.0
STEPS_BACK = {"deis_3": "deis_2", "deis_4": "deis_2"}


class Options(TypedDict, total=False):
    """The options of `Pipeline.generate`, which explains them."""

    seeds: int | Sequence[int] | None
    indices: Sequence[int] | None
    steps: int | None
    guidance: float | Sequence[float] | None
    interval: tuple[float, float] | None
    sampler: str | None
    grid: str | None
    center: float | None
    negative: str | None
    init_image: Image.Image | None
    strength: float | None
    mask: Image.Image | None
    outpaint: Sequence[int] | None
    invert: str | None
    captions_to: str | Sequence[str] | None
    seeds_to: int | Sequence[int] | None
    indices_to: Sequence[int] | None
    shares: Sequence[float] | None
    variation: float | None
    width: int | None
    height: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a number of pictures is made from: complete and checked. Made by `Pipeline.request`.

    Tuples have an entry per picture; those that end in `_to` are empty where nothing is mixed in.
    """

    captions: tuple[str, ...]
    seeds: tuple[int, ...]  # the starting noise of a picture is drawn from its seed and index
    indices: tuple[int, ...]
    guidance: tuple[float, ...]
    shares: tuple[float, ...]  # of the caption and the noise mixed in, from 0 to 1
    captions_to: tuple[str, ...]
    seeds_to: tuple[int, ...]
    indices_to: tuple[int, ...]
    steps: int
    interval: tuple[float, float]  # noise levels at which guidance acts
    sampler: str
    grid: str
    center: float  # sigma around which the grid's steps are
    negative: str
    width: int
    height: int
    strength: float
    invert: str | None  # the caption under which init_image is led back to noise; None: noise is put on it
    outpaint: Margins  # already around init_image; kept for receipts
    init_image: Image.Image | None  # RGB, width x height
    mask: Image.Image | None  # L, width x height; white is repainted, black is kept

    def __len__(self) -> int:
        return len(self.captions)

    def parts(self, size: int) -> Iterator[Request]:
        """The same pictures, at most `size` at a time."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield replace(
                self,
                captions=self.captions[rows],
                seeds=self.seeds[rows],
                indices=self.indices[rows],
                guidance=self.guidance[rows],
                shares=self.shares[rows],
                captions_to=self.captions_to[rows],
                seeds_to=self.seeds_to[rows],
                indices_to=self.indices_to[rows],
            )


def make_request(
    config: Config,
    samplers: Collection[str],
    grids: Collection[str],
    captions: str | Sequence[str],
    *,
    seeds: int | Sequence[int] | None = None,
    indices: Sequence[int] | None = None,
    steps: int | None = None,
    guidance: float | Sequence[float] | None = None,
    interval: tuple[float, float] | None = None,
    sampler: str | None = None,
    grid: str | None = None,
    center: float | None = None,
    negative: str | None = None,
    init_image: Image.Image | None = None,
    strength: float | None = None,
    mask: Image.Image | None = None,
    outpaint: Sequence[int] | None = None,
    invert: str | None = None,
    captions_to: str | Sequence[str] | None = None,
    seeds_to: int | Sequence[int] | None = None,
    indices_to: Sequence[int] | None = None,
    shares: Sequence[float] | None = None,
    variation: float | None = None,
    width: int | None = None,
    height: int | None = None,
) -> Request:
    """Complete what is None from the model's own settings and check everything. Raises ConfigError."""
    own, net = config.sample, config.net
    texts = _texts("captions", captions)
    num = len(texts)
    if init_image is None and not (strength is None and mask is None and outpaint is None and invert is None):
        raise ConfigError("strength, mask, outpaint and invert change a picture: they need an init_image")
    if mask is not None and init_image is not None and mask.size != init_image.size:
        sizes = [f"{picture.width}x{picture.height}" for picture in (mask, init_image)]
        raise ConfigError(f"the mask is {sizes[0]} and the init_image {sizes[1]}: they must be of one size")
    margins = _margins(outpaint)
    across = side("width", net.resolution + margins[0] + margins[2] if width is None else width, net.patch, MAX_SIDE)
    down = side("height", net.resolution + margins[1] + margins[3] if height is None else height, net.patch, MAX_SIDE)
    picture, painted = canvas(init_image, mask, margins, across, down)
    share = strength if strength is not None else STRENGTH if invert is None and not any(margins) else 1.0
    defaults = (own.steps, own.sampler, own.grid) if invert is None else INVERT
    own_steps, own_sampler, own_grid = defaults
    # A larger picture keeps its contents visible under more noise.
    own_center = own.grid_center * math.sqrt(across * down) / net.resolution
    scales = _guidance(own.guidance if guidance is None else guidance, num)
    name = _one_of("sampler", samplers, own_sampler if sampler is None else sampler)
    mixed = _mixed(num, _seeds("seed", seeds, num), captions_to, seeds_to, indices_to, shares, variation)
    return Request(
        captions=texts,
        seeds=_seeds("seed", seeds, num),
        indices=(0,) * num if variation is not None else _indices(indices, seeds, num),
        guidance=scales,
        shares=mixed.shares,
        captions_to=mixed.captions,
        seeds_to=mixed.seeds,
        indices_to=mixed.indices,
        steps=whole("steps", own_steps if steps is None else steps, 1, MAX_STEPS),
        interval=_interval((own.guidance_min, own.guidance_max) if interval is None else interval),
        sampler=STEPS_BACK.get(name, name) if max(scales) > STRONG_GUIDANCE else name,
        grid=_one_of("grid", grids, own_grid if grid is None else grid),
        center=number("center", own_center if center is None else center, 1e-3, 1e4),
        negative="" if negative is None else _texts("negative", [negative])[0],
        width=across,
        height=down,
        strength=1.0 if init_image is None else number("strength", share, MIN_STRENGTH, 1),
        invert=None if invert is None else _texts("invert", [invert])[0],
        outpaint=margins,
        init_image=picture,
        mask=painted,
    )


@dataclass(frozen=True, slots=True)
class _Mixed:
    captions: tuple[str, ...]
    seeds: tuple[int, ...]
    indices: tuple[int, ...]
    shares: tuple[float, ...]


def _mixed(
    num: int,
    seeds: tuple[int, ...],
    captions_to: str | Sequence[str] | None,
    seeds_to: int | Sequence[int] | None,
    indices_to: Sequence[int] | None,
    shares: Sequence[float] | None,
    variation: float | None,
) -> _Mixed:
    """What is mixed into each picture: another caption, another starting noise, and how much of it."""
    mixes = captions_to is not None or seeds_to is not None
    if variation is not None:
        if mixes or shares is not None or indices_to is not None:
            raise ConfigError("give either variation, or captions_to and seeds_to")
        distance = number("variation", variation, 0, 1)
        # Noise that no index of a request draws: indices of pictures stay below 2^32.
        private = tuple(place << 32 for place in range(num))
        return _Mixed((), seeds, private, (0.0, *(distance,) * (num - 1)))
    if not mixes:
        if shares is not None or indices_to is not None:
            raise ConfigError("shares and indices_to belong to captions_to or seeds_to")
        return _Mixed((), (), (), (0.0,) * num)
    even = [place / (num - 1) for place in range(num)] if num > 1 else [0.5]
    given = even if shares is None else list(shares)
    others: tuple[str, ...] = ()
    if captions_to is not None:
        others = _texts("captions_to", captions_to)
        others = others * num if isinstance(captions_to, str) else others
    indices = (0,) * num if indices_to is None else tuple(whole("index", i, 0, MAX_SEED) for i in indices_to)
    for name, values in (("share", given), ("caption in captions_to", others or given), ("index", indices)):
        if len(values) != num:
            raise ConfigError(f"there must be one {name} per caption: {num}, not {len(values)}")
    return _Mixed(
        others,
        () if seeds_to is None else _seeds("seed", seeds_to, num),
        () if seeds_to is None else indices,
        tuple(number("share", share, 0, 1) for share in given),
    )


def _margins(outpaint: Sequence[int] | None) -> Margins:
    if outpaint is None:
        return 0, 0, 0, 0
    if len(outpaint) != 4:
        raise ConfigError(f"outpaint must be four margins: left, top, right, bottom, not {len(outpaint)}")
    left, top, right, bottom = (whole("a margin of outpaint", margin, 0, MAX_SIDE) for margin in outpaint)
    return left, top, right, bottom


def _texts(name: str, given: str | Sequence[str]) -> tuple[str, ...]:
    texts = (given,) if isinstance(given, str) else tuple(given)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"{name} must be a text or a list of at least one text, not {given!r}")
    longest = max(map(len, texts))
    if longest > MAX_CAPTION:
        raise ConfigError(f"a text may have at most {MAX_CAPTION:,} characters, not {longest:,}")
    return texts


def _one_of(name: str, names: Collection[str], value: str) -> str:
    if value not in names:
        raise ConfigError(f"{name} must be one of {', '.join(names)}, not {value!r}")
    return value


def _seeds(name: str, seeds: int | Sequence[int] | None, num: int) -> tuple[int, ...]:
    given: Sequence[int]
    if seeds is None:
        given = [0] * num
    else:
        given = seeds if isinstance(seeds, Sequence) else [seeds] * num
    if len(given) != num:
        raise ConfigError(f"there must be one {name} per caption: {num}, not {len(given)}")
    return tuple(whole(name, seed, 0, MAX_SEED) for seed in given)


def _indices(indices: Sequence[int] | None, seeds: int | Sequence[int] | None, num: int) -> tuple[int, ...]:
    if indices is None:
        return (0,) * num if isinstance(seeds, Sequence) else tuple(range(num))
    if len(indices) != num:
        raise ConfigError(f"there must be one index per caption: {num}, not {len(indices)}")
    return tuple(whole("index", index, 0, MAX_INDEX) for index in indices)


def _guidance(guidance: float | Sequence[float], num: int) -> tuple[float, ...]:
    scales = tuple(guidance) if isinstance(guidance, Sequence) else (guidance,) * num
    if len(scales) != num:
        raise ConfigError(f"there must be one guidance per caption: {num}, not {len(scales)}")
    return tuple(number("guidance", scale, 0, MAX_GUIDANCE) for scale in scales)


def _interval(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = (number("an end of the guidance interval", end, 0, MAX_SIGMA) for end in interval)
    if low > high:
        raise ConfigError(f"the guidance interval must not end below its start: {low:g}, {high:g}")
    return low, high
