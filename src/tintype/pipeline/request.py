"""Requests: the options of making pictures, completed with the model's own settings and checked. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

from PIL import Image, ImageOps

from tintype.config import Config
from tintype.diffusion.names import SAMPLERS, SCHEDULES
from tintype.errors import ConfigError
from tintype.pipeline.init_image import InitImage, Padding, outpaint_padding
from tintype.pipeline.interpolation import Interpolation, interpolation, no_interpolation, variations
from tintype.pipeline.limits import (
    MAX_CAPTION,
    MAX_GUIDANCE,
    MAX_INDEX,
    MAX_SIDE,
    MAX_SIGMA,
    MAX_STEPS,
    OLDER_NAMES,
    STRENGTH,
)
from tintype.pipeline.notes import caption_notes, cut_notes, size_notes
from tintype.pipeline.sizes import picture_size
from tintype.pipeline.validators import each_seed, integer, noise_levels, number, one_of, per_caption, side, strings

if TYPE_CHECKING:
    from torch import Tensor

    from tintype.diffusion.samplers import Sampler

Schedule = Callable[[int, float, float, float, float], "Tensor | Sequence[float]"]
T = TypeVar("T")

INVERSION = (24, "euler", "log_snr")  # default steps, sampler and schedule: inversion is exact for euler
NEED_INIT_IMAGE = ("strength", "mask", "outpaint", "source_caption")

# A polynomial through many predictions under strong guidance oscillates: measured on exact mixtures, from scale 5 on
# deis_4 is the worst of all. unipc corrects itself and needs no lower order.
STRONG_GUIDANCE = 4.0
LOWER_ORDER = {"deis_3": "deis_2", "deis_4": "deis_2"}


class _OlderOptions(TypedDict, total=False):
    grid: str | Schedule | Tensor | Sequence[float] | None
    interval: tuple[float, float] | None
    negative: str | None
    invert: str | None
    shares: Sequence[float] | None


class Options(_OlderOptions, total=False):
    """The options of `Pipeline.generate`. None, the same as leaving an option out, means the model's own setting.

        pipeline.generate(["a red circle", "a blue star"], seeds=[7, 8], steps=12, guidance=3.0)

    Noise:
        seeds: one per caption (each at index 0), or one for all (the i-th picture at index i); default: 0 for all.
        indices: one per caption. Picture i of a request with seed S is the picture of seed S and index i made alone.
    Sampling:
        steps: 1 to 1000.
        guidance: scale of classifier-free guidance, 0 to 100; 1 is no guidance. One number, or one per caption.
        guidance_interval: lowest and highest noise level at which guidance acts.
        negative_prompt: text to steer away from, in place of the empty caption.
        sampler: a name in `tintype.diffusion.samplers.SAMPLERS`, or a coroutine function (x, sigmas, randn):
            x [B, C, H, W] is noise of level sigmas[0]; sigmas [K + 1] float64 decrease to 0; randn(n) is the n-th draw
            of standard normal noise, shaped like x. It yields `tintype.Query(x, sigma)` with sigma [B], is sent the
            network's prediction of the clean pictures, shaped like x, and returns the pictures. It must not change the
            tensors that it yields or is sent, and must work for B = 0: a run without pictures counts its queries.
        schedule: a name in `tintype.diffusion.sigmas.SCHEDULES`; or a function (steps, sigma_min, sigma_max, center,
            spread) that returns noise levels; or the noise levels themselves, decreasing and ending with 0.
        center, spread: noise level around which a schedule's steps are, and how widely, for schedules that have these.
        avoid_copies: steer away from the training pictures where a picture comes nearer to one than held-out pictures
            do. Needs the copy index of the model; see `Pipeline.copy_index`. Not with init_image.
    Size:
        width, height: pixels, multiples of the model's patch, up to 2048. Default: the usual size of the training
            pictures; with init_image, the size nearest to its shape. Beyond twice the trained side, models repeat and
            scatter what they draw.
        enlarge: True: make the picture at the model's own size and enlarge it to width x height, any up to 2048. A
            size such as "512x512": likewise, made at width x height.
    Editing:
        init_image, strength: start from this picture with noise added, from 0.01 (a little) to 1 (nothing but noise);
            default 0.6.
        mask: repaint init_image where the mask, of its size, is white; black pixels stay exactly as they are.
        outpaint: pixels to paint around init_image: left, top, right, bottom. The picture is fitted into what they
            leave of width x height.
        source_caption: the caption of init_image. The picture is inverted under it, to `strength` of the way (default:
            all), and the new picture starts from the noise found. Under the same caption the same picture comes back
            if the sampler is `euler`, the default here.
    Interpolation:
        captions_to, seeds_to: a second caption, a second starting noise (mixed spherically); `indices_to` go with
            `seeds_to` and are 0 by default.
        mix_weights: of these, from 0 to 1 per picture; default: evenly from the first picture to the last.
        variation: the first picture is that of its seed and index 0, the others are variations of it at this distance,
            from 0 (the same) to 1 (unrelated). With source_caption, variations of the noise found by inversion.

    `grid`, `interval`, `negative`, `invert` and `shares` are older names of schedule, guidance_interval,
    negative_prompt, source_caption and mix_weights.
    """

    seeds: int | Sequence[int] | None
    indices: Sequence[int] | None
    steps: int | None
    guidance: float | Sequence[float] | None
    guidance_interval: tuple[float, float] | None
    negative_prompt: str | None
    sampler: str | Sampler | None
    schedule: str | Schedule | Tensor | Sequence[float] | None
    center: float | None
    spread: float | None
    avoid_copies: bool | None
    width: int | None
    height: int | None
    enlarge: bool | str | None
    init_image: Image.Image | None
    strength: float | None
    mask: Image.Image | None
    outpaint: Sequence[int] | None
    source_caption: str | None
    captions_to: str | Sequence[str] | None
    seeds_to: int | Sequence[int] | None
    indices_to: Sequence[int] | None
    mix_weights: Sequence[float] | None
    variation: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainOptions:
    """Options that are one number or text for all pictures; receipts store and restore each under its name.

    A default is the value of pictures whose receipts are older than the option.
    """

    steps: int
    width: int  # pixels
    height: int
    center: float = 0.7  # sigma around which the schedule's steps are, for schedules that have one
    spread: float = 1.1  # and how widely
    enlarge: str = ""  # of finished pictures: their size and the resampler, such as "512x512 lanczos"; "": as made


@dataclass(frozen=True, kw_only=True, slots=True)
class Request(PlainOptions):
    """Pictures to make: `Options`, complete and checked. Made by `Pipeline.request`.

    Tuples have an entry per picture; those that end in `_to` are empty where nothing is mixed in.
    """

    captions: tuple[str, ...]
    seeds: tuple[int, ...]  # the starting noise of a picture is drawn from its seed and index
    indices: tuple[int, ...]
    guidance: tuple[float, ...]
    mix_weights: tuple[float, ...]  # of captions_to and seeds_to, from 0 to 1
    captions_to: tuple[str, ...]
    seeds_to: tuple[int, ...]
    indices_to: tuple[int, ...]
    guidance_interval: tuple[float, float]  # noise levels at which guidance acts
    sampler: str | Sampler
    schedule: str | Schedule | tuple[float, ...]
    negative_prompt: str
    strength: float
    source_caption: str | None  # for inversion of init_image; None: noise is added to it
    outpaint: Padding  # already around init_image; kept for receipts
    init_image: Image.Image | None  # RGB, width x height
    mask: Image.Image | None  # L, width x height; white is repainted, black is kept
    avoid_copies: bool = False
    notes: tuple[str, ...] = ()  # what is not as people may expect, for people

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
                mix_weights=self.mix_weights[rows],
                captions_to=self.captions_to[rows],
                seeds_to=self.seeds_to[rows],
                indices_to=self.indices_to[rows],
            )


def make_request(config: Config, captions: str | Sequence[str], options: Options) -> Request:
    """Complete options with the model's own settings and check them. Raises ConfigError."""
    spelled = {new: old if options.get(old) is not None else new for new, old in OLDER_NAMES.items()}
    options = _renamed(options)
    defaults = config.sample
    prompts = strings("captions", captions, MAX_CAPTION)
    num, source = len(prompts), options.get("source_caption")
    init, enlarge, notes = _init_image(config, options)
    seeds = each_seed(options.get("seeds"), num)
    mix = _interpolation(seeds, options)
    scales = _guidance(options.get("guidance"), defaults.guidance, num)
    steps, sampler, schedule = (defaults.steps, defaults.sampler, defaults.schedule) if source is None else INVERSION
    least_steps = 1 if source is None else 2
    levels = _schedule(spelled["schedule"], options.get("schedule"), schedule, least_steps)
    if isinstance(levels, tuple):
        steps = len(levels) - 1
        if _or(options.get("steps"), steps) != steps:
            raise ConfigError(f"steps must be {steps} for {steps + 1} noise levels; leave it out")
    # A larger picture keeps its contents visible under more noise.
    center = defaults.schedule_center * math.sqrt(init.width * init.height) / config.net.resolution
    interval = _or(options.get("guidance_interval"), (defaults.guidance_min, defaults.guidance_max))
    negative = strings(spelled["negative_prompt"], [_or(options.get("negative_prompt"), "")], MAX_CAPTION)[0]
    return Request(
        captions=prompts,
        seeds=seeds,
        indices=_indices(num, options),
        guidance=scales,
        mix_weights=mix.weights,
        captions_to=mix.captions,
        seeds_to=mix.seeds,
        indices_to=mix.indices,
        steps=integer("steps", _or(options.get("steps"), steps), least_steps, MAX_STEPS),
        guidance_interval=_interval(interval),
        sampler=_sampler(options.get("sampler"), sampler, max(scales)),
        schedule=levels,
        center=number("center", _or(options.get("center"), center), 1e-3, 1e4),
        spread=number("spread", _or(options.get("spread"), defaults.schedule_spread), 0.1, 10),
        negative_prompt=negative,
        width=init.width,
        height=init.height,
        strength=init.strength,
        source_caption=None if source is None else strings(spelled["source_caption"], [source], MAX_CAPTION)[0],
        outpaint=init.padding,
        init_image=init.image,
        mask=init.mask,
        enlarge=enlarge,
        avoid_copies=_avoid_copies(config, options),
        notes=(*caption_notes([*prompts, *mix.captions, negative]), *notes),
    )


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _renamed(options: Options) -> Options:
    """Options that are not None, under today's names. Raises TypeError for an unknown name."""
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        names = [name for name in Options.__annotations__ if name not in OLDER_NAMES.values()]
        raise TypeError(f"there is no option {unknown[0]!r}; the options are {', '.join(names)}")
    renamed: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for new, old in OLDER_NAMES.items():
        if old in renamed:
            if new in renamed:
                raise ConfigError(f"{old} is the older name of {new}; give only one of them")
            renamed[new] = renamed.pop(old)
    return cast(Options, renamed)


def _sampler(sampler: str | Sampler | None, default: str, strongest_guidance: float) -> str | Sampler:
    if callable(sampler):
        return sampler
    name = one_of("sampler", SAMPLERS, _or(sampler, default))
    return LOWER_ORDER.get(name, name) if strongest_guidance > STRONG_GUIDANCE else name


def _schedule(
    option: str,
    schedule: str | Schedule | Tensor | Sequence[float] | None,
    default: str,
    least_steps: int,
) -> str | Schedule | tuple[float, ...]:
    if schedule is None or isinstance(schedule, str):
        return one_of(option, SCHEDULES, _or(schedule, default))
    if callable(schedule):
        return schedule
    return noise_levels(option, schedule, least_steps, MAX_STEPS, MAX_SIGMA)


def _interpolation(seeds: tuple[int, ...], options: Options) -> Interpolation:
    captions_to, seeds_to, indices_to = options.get("captions_to"), options.get("seeds_to"), options.get("indices_to")
    variation, weights = options.get("variation"), options.get("mix_weights")
    mixes = captions_to is not None or seeds_to is not None
    extra = weights is not None or indices_to is not None
    if variation is not None:
        if mixes or extra:
            raise ConfigError("give either variation, or captions_to and seeds_to")
        return variations(seeds, variation)
    if mixes:
        return interpolation(len(seeds), captions_to, seeds_to, indices_to, weights)
    if extra:
        raise ConfigError("mix_weights (shares) and indices_to need captions_to or seeds_to")
    return no_interpolation(len(seeds))


def _init_image(config: Config, options: Options) -> tuple[InitImage, str, list[str]]:
    """The starting picture at the size to make, the enlargement, and notes about both."""
    image, source = options.get("init_image"), options.get("source_caption")
    if image is None and any(options.get(name) is not None for name in NEED_INIT_IMAGE):
        raise ConfigError("strength, mask, outpaint and source_caption (invert) need an init_image")
    padding = outpaint_padding(options.get("outpaint"))
    strength = _or(options.get("strength"), STRENGTH if source is None and not any(padding) else 1.0)
    upright = None if image is None else ImageOps.exif_transpose(image)
    (width, height), enlarge = picture_size(
        config,
        (options.get("width"), options.get("height")),
        options.get("enlarge"),
        None if upright is None else upright.size,
        (padding[0] + padding[2], padding[1] + padding[3]),
    )
    multiple = config.net.multiple
    size = side("width", width, multiple, MAX_SIDE), side("height", height, multiple, MAX_SIDE)
    init = InitImage.prepare(upright, options.get("mask"), padding, *size, strength)
    notes = size_notes(config, size)
    if upright is not None:
        notes += cut_notes(upright.size, (width - padding[0] - padding[2], height - padding[1] - padding[3]))
    return init, enlarge, notes


def _indices(num: int, options: Options) -> tuple[int, ...]:
    indices = options.get("indices")
    if options.get("variation") is not None:
        return (0,) * num
    if indices is None:
        return (0,) * num if isinstance(options.get("seeds"), Sequence) else tuple(range(num))
    return tuple(integer("index", index, 0, MAX_INDEX) for index in per_caption("index", indices, num))


def _avoid_copies(config: Config, options: Options) -> bool:
    wanted = _or(options.get("avoid_copies"), False)
    if not isinstance(wanted, bool):
        raise ConfigError(f"avoid_copies must be true or false, not {wanted!r}")
    if wanted and options.get("init_image") is not None:
        raise ConfigError("avoid_copies cannot be combined with an init_image, whose copy it would have to make")
    if wanted and config.net.codec != "pixels":
        raise ConfigError("avoid_copies needs a model whose codec is pixels")
    return wanted


def _guidance(guidance: float | Sequence[float] | None, default: float, num: int) -> tuple[float, ...]:
    scales = guidance if isinstance(guidance, Sequence) else [_or(guidance, default)] * num
    return tuple(number("guidance", scale, 0, MAX_GUIDANCE) for scale in per_caption("guidance", scales, num))


def _interval(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = (number("guidance_interval", end, 0, MAX_SIGMA) for end in interval)
    if low > high:
        raise ConfigError(f"guidance_interval must not end below its start: {low:g}, {high:g}")
    return low, high
