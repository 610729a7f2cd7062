"""What pictures are asked for: every option of making one, completed from the model's own settings and checked."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, TypeVar

from PIL import Image

from tintype.config import Config, NetConfig
from tintype.errors import ConfigError
from tintype.pipeline.init_image import Margins, canvas
from tintype.pipeline.init_image import fitted as fitted
from tintype.pipeline.validators import number, one_of, per_caption, side, texts, whole

T = TypeVar("T")

MAX_SIDE = 2048  # pixels
MAX_STEPS = 1000
MAX_GUIDANCE = 100.0
MAX_SEED = 2**63 - 1
MAX_INDEX = 2**32 - 1
MAX_CAPTION = 32_000  # characters; the OpenAI images API takes as many
MAX_SIGMA = 1e6
MIN_STRENGTH = 0.01
STRENGTH = 0.6  # of the noise put on an init_image unless told otherwise
INVERT = (24, "euler", "log_snr")  # steps, sampler and grid: what is led back is what euler leads there

# A polynomial through many answers of strong guidance swings: measured on exact mixtures, from scale 5 on deis_4 is the
# worst of all. unipc, which corrects itself, needs no stepping back.
STRONG_GUIDANCE = 4.0
STEPS_BACK = {"deis_3": "deis_2", "deis_4": "deis_2"}


class Options(TypedDict, total=False):
    """The options of `Pipeline.generate`, which explains them; None is as good as absent."""

    seeds: int | Sequence[int] | None
    indices: Sequence[int] | None
    steps: int | None
    guidance: float | Sequence[float] | None
    interval: tuple[float, float] | None
    sampler: str | None
    grid: str | None
    center: float | None
    spread: float | None
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
    spread: float  # and how widely
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
    config: Config, samplers: Collection[str], grids: Collection[str], captions: str | Sequence[str], options: Options
) -> Request:
    """Complete what is None from the model's own settings and check everything. Raises ConfigError."""
    _known(options)
    own = config.sample
    told = texts("captions", captions, MAX_CAPTION)
    num, invert = len(told), options.get("invert")
    page = _page(config.net, options)
    seeds = _seeds(options.get("seeds"), num)
    mixed = _mixed(seeds, options)
    scales = _guidance(options.get("guidance"), own.guidance, num)
    steps, sampler, grid = (own.steps, own.sampler, own.grid) if invert is None else INVERT
    name = one_of("sampler", samplers, _or(options.get("sampler"), sampler))
    # A larger picture keeps its contents visible under more noise.
    center = own.grid_center * math.sqrt(page.width * page.height) / config.net.resolution
    return Request(
        captions=told,
        seeds=seeds,
        indices=_indices(num, options),
        guidance=scales,
        shares=mixed.shares,
        captions_to=mixed.captions,
        seeds_to=mixed.seeds,
        indices_to=mixed.indices,
        steps=whole("steps", _or(options.get("steps"), steps), 1 if invert is None else 2, MAX_STEPS),
        interval=_interval(_or(options.get("interval"), (own.guidance_min, own.guidance_max))),
        sampler=STEPS_BACK.get(name, name) if max(scales) > STRONG_GUIDANCE else name,
        grid=one_of("grid", grids, _or(options.get("grid"), grid)),
        center=number("center", _or(options.get("center"), center), 1e-3, 1e4),
        spread=number("spread", _or(options.get("spread"), own.grid_spread), 0.1, 10),
        negative=texts("negative", [_or(options.get("negative"), "")], MAX_CAPTION)[0],
        width=page.width,
        height=page.height,
        strength=page.strength,
        invert=None if invert is None else texts("invert", [invert], MAX_CAPTION)[0],
        outpaint=page.margins,
        init_image=page.picture,
        mask=page.mask,
    )


def _or(given: T | None, default: T) -> T:
    return default if given is None else given


def _known(options: Options) -> None:
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise TypeError(f"there is no option {unknown[0]!r}; there are {', '.join(Options.__annotations__)}")


@dataclass(frozen=True, slots=True)
class _Page:
    width: int
    height: int
    margins: Margins
    picture: Image.Image | None
    mask: Image.Image | None
    strength: float


def _page(net: NetConfig, options: Options) -> _Page:
    """Size of the pictures, and what is there to begin with."""
    init_image, mask, strength = options.get("init_image"), options.get("mask"), options.get("strength")
    margins = _margins(options.get("outpaint"))
    if init_image is None:
        if any(options.get(name) is not None for name in ("strength", "mask", "outpaint", "invert")):
            raise ConfigError("strength, mask, outpaint and invert change a picture: they need an init_image")
    elif mask is not None and mask.size != init_image.size:
        sizes = [f"{picture.width}x{picture.height}" for picture in (mask, init_image)]
        raise ConfigError(f"the mask is {sizes[0]} and the init_image {sizes[1]}: they must be of one size")
    width = side("width", _or(options.get("width"), net.resolution + margins[0] + margins[2]), net.patch, MAX_SIDE)
    height = side("height", _or(options.get("height"), net.resolution + margins[1] + margins[3]), net.patch, MAX_SIDE)
    picture, painted = canvas(init_image, mask, margins, width, height)
    usual = STRENGTH if options.get("invert") is None and not any(margins) else 1.0
    share = 1.0 if init_image is None else number("strength", _or(strength, usual), MIN_STRENGTH, 1)
    return _Page(width, height, margins, picture, painted, share)


@dataclass(frozen=True, slots=True)
class _Mixed:
    captions: tuple[str, ...]
    seeds: tuple[int, ...]
    indices: tuple[int, ...]
    shares: tuple[float, ...]


def _mixed(seeds: tuple[int, ...], options: Options) -> _Mixed:
    """What is mixed into each picture: another caption, another starting noise, and how much of it."""
    num = len(seeds)
    captions_to, seeds_to, variation = options.get("captions_to"), options.get("seeds_to"), options.get("variation")
    indices_to, shares = options.get("indices_to"), options.get("shares")
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
    others: tuple[str, ...] = ()
    if captions_to is not None:
        others = texts("captions_to", captions_to, MAX_CAPTION)
        others = others * num if isinstance(captions_to, str) else others
        per_caption("caption in captions_to", others, num)
    indices = tuple(whole("index", i, 0, MAX_SEED) for i in per_caption("index", _or(indices_to, [0] * num), num))
    return _Mixed(
        others,
        () if seeds_to is None else _seeds(seeds_to, num),
        () if seeds_to is None else indices,
        tuple(number("share", share, 0, 1) for share in per_caption("share", _or(shares, even), num)),
    )


def _margins(outpaint: Sequence[int] | None) -> Margins:
    if outpaint is None:
        return 0, 0, 0, 0
    if len(outpaint) != 4:
        raise ConfigError(f"outpaint must be four margins: left, top, right, bottom, not {len(outpaint)}")
    left, top, right, bottom = (whole("a margin of outpaint", margin, 0, MAX_SIDE) for margin in outpaint)
    return left, top, right, bottom


def _seeds(seeds: int | Sequence[int] | None, num: int) -> tuple[int, ...]:
    given = seeds if isinstance(seeds, Sequence) else [_or(seeds, 0)] * num
    return tuple(whole("seed", seed, 0, MAX_SEED) for seed in per_caption("seed", given, num))


def _indices(num: int, options: Options) -> tuple[int, ...]:
    given = options.get("indices")
    if options.get("variation") is not None:
        return (0,) * num
    if given is None:
        return (0,) * num if isinstance(options.get("seeds"), Sequence) else tuple(range(num))
    return tuple(whole("index", index, 0, MAX_INDEX) for index in per_caption("index", given, num))


def _guidance(guidance: float | Sequence[float] | None, usual: float, num: int) -> tuple[float, ...]:
    scales = guidance if isinstance(guidance, Sequence) else [_or(guidance, usual)] * num
    return tuple(number("guidance", scale, 0, MAX_GUIDANCE) for scale in per_caption("guidance", scales, num))


def _interval(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = (number("an end of the guidance interval", end, 0, MAX_SIGMA) for end in interval)
    if low > high:
        raise ConfigError(f"the guidance interval must not end below its start: {low:g}, {high:g}")
    return low, high
