"""The settings of a model and of the run that trains it: frozen, complete, saved as JSON. Every default lives here."""

from __future__ import annotations

import codecs
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

from tintype.diffusion import names
from tintype.errors import ConfigError

T = TypeVar("T")
CROPS = ("square", "none")
ANIMATIONS = ("first", "skip")
NO_CAPTION = ("skip", "empty", "name")
TEXT_ENCODERS = ("minilm", "learned")  # besides hf:NAME-OR-FOLDER; `model.nets.text.make_encoder` makes them
WEIGHT_FADE = 4.0  # weight_fade at a resolution of 32, by trials (dev/LOG.md)
MAX_ENCODER_NAME = 4096  # characters
FORMAT = 2  # of config.json; raised when an older Tintype can no longer read it
RENAMED = {  # names of settings in format 1 -> today's
    "grid": "schedule",
    "grid_center": "schedule_center",
    "grid_spread": "schedule_spread",
    "state_width": "embedding_dim",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class NetConfig:
    """Shape of the network."""

    resolution: int = 32  # pixels; the side of the square training pictures
    channels: int = 3
    patch: int = 8  # pixels; the side of the square that one token stands for
    width: int = 192  # of a token
    depth: int = 5  # transformer blocks
    heads: int = 3
    stem_width: int = 32  # channels of the convolutions at full size, before and after the transformer
    stem_depth: int = 2  # convolution blocks on each side, at each level
    stem_levels: int = 2  # full size, half size, ...; channels double from level to level
    architecture: str = "dit"  # a name in model.network.NETWORKS
    codec: str = "pixels"  # between pictures and the space of the network: a name in model.codec.CODECS
    codec_factor: int = 1  # pixels that one position of that space stands for, along a side
    text_depth: int = 2  # transformer blocks that refine the text embeddings

    @property
    def multiple(self) -> int:
        """Pixels of which width and height of every picture are multiples."""
        return self.patch * self.codec_factor


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig:
    """Where text embeddings come from."""

    encoder: str = "minilm"  # "minilm", "learned" or "hf:NAME-OR-FOLDER"
    max_tokens: int = 64  # longer captions are cut, and counted
    vocabulary: int = 0  # of "learned"; 0 for frozen encoders
    embedding_dim: int = 384  # D of a frozen encoder's text embeddings; for "learned", of the embedding table


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseConfig:
    """The prediction of the network, the weight of its error, and the noise levels of training."""

    prediction: str = "image"  # "noise" (epsilon), "velocity" (flow), "image" (x0) or "edm"
    weight: str = "velocity"  # of the loss: a name in diffusion.loss.WEIGHTS
    weight_fade: float = 0.0  # sigma above which the weight falls as 1 / sigma; 0: nowhere, as in older runs
    sigma_data: float = 0.5  # standard deviation of x0
    log_sigma_mean: float = 1.0  # of ln sigma in training
    log_sigma_std: float = 0.9
    sigma_min: float = 0.02
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        name = names.PREDICTION_ALIASES.get(self.prediction, self.prediction)
        object.__setattr__(self, "prediction", name)  # one name is stored and compared

    @property
    def weighting(self) -> str:
        """The loss weight, for display."""
        return f"{self.weight}, faded above sigma {self.weight_fade:g}" if self.weight_fade else self.weight


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run. Every length is counted in images seen."""

    images: int = 500_000  # the planned end
    batch_size: int = 16
    micro_batch: int = 0  # pictures that one process computes at once; 0: its whole share of the batch
    lr: float = 1e-3
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 1.0
    warmup_images: int = 2_000
    decay_fraction: float = 0.2  # of the planned images, at the end, over which lr falls to zero
    ema_width: float = 0.05  # power-function EMA: standard deviation of the averaging profile, relative to its end
    ema_width_long: float = 0.1  # of a second, longer average; a measurement at the end chooses between the two
    caption_dropout: float = 0.1  # share of samples trained with the empty caption
    flip: bool = False  # mirror half of the pictures
    held_out: float = 0.03  # share of pictures never trained on, to measure the noise error
    seed: int = 0
    save_minutes: float = 5.0
    sample_minutes: float = 5.0
    keep_last: int = 3  # checkpoints; beside these, one every `keep_every` images and the best one are kept
    keep_every: int = 0  # images; 0: none
    keep_best: bool = True  # by the error on held-out pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Preprocessing of pictures and captions. The defaults are those of older runs, which store no such settings."""

    crop: str = "square"  # "square": the middle of each picture; "none": shapes of nearly equal area, little is cut
    alpha_color: str = "white"  # behind transparency: a name or #rrggbb
    min_size: int = 0  # pixels; pictures with a shorter side below it are left out; 0: half the resolution
    max_aspect: float = 4.0  # longer over shorter side; pictures above it are left out
    animations: str = "first"  # of animations and pages: use the "first" picture, or "skip" the file
    caption_encoding: str = "utf-8"  # of text without a byte-order mark
    no_caption: str = "skip"  # without a caption: "skip" the picture, train on the "empty" one, or on the file's "name"
    dedupe: bool = False  # leave out exact copies but the first


@dataclass(frozen=True, kw_only=True, slots=True)
class DataOptions:
    """The settings of DataConfig that a user may give; None: not given."""

    crop: str | None = None
    alpha_color: str | None = None
    min_size: int | None = None
    max_aspect: float | None = None
    animations: str | None = None
    caption_encoding: str | None = None
    no_caption: str | None = None
    dedupe: bool | None = None

    def applied_to(self, data: DataConfig) -> DataConfig:
        """`data` with the settings that are given. Raises ConfigError for a value that is not allowed."""
        data = dataclasses.replace(data, **given_settings(data, self))
        check_data(data)
        return data


def given_settings(config: object, options: object) -> dict[str, Any]:
    """The settings of `config`, a dataclass, that `options` has under the same name and that are not None there."""
    names = (entry.name for entry in dataclasses.fields(config))  # type: ignore[arg-type]
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleConfig:
    """Default settings of sampling."""

    sampler: str = "unipc"
    steps: int = 16
    schedule: str = "logistic"  # of noise levels: a name in diffusion.sigmas.SCHEDULES
    schedule_center: float = 0.7  # sigma around which the schedule has its steps, at the training resolution
    schedule_spread: float = 1.1  # of the steps: 1 is even in flow time; the wider, the more even in ln sigma
    guidance: float = 3.0
    guidance_min: float = 0.5  # guidance acts on noise levels between these two
    guidance_max: float = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig:
    """Distillation: the teacher and the number of steps. The defaults mean that the model was not distilled."""

    teacher: str = ""  # name of the model
    teacher_hash: str = ""  # sha256 of its weights
    steps: int = 0  # evaluations per picture, at the noise levels of its schedule of that many steps
    teacher_steps: int = 0  # steps of the teacher for each of these in training
    guidance: float = 1.0  # guidance of the teacher
    guidance_min: float = 0.4  # interval of noise levels of that guidance
    guidance_max: float = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Everything about a model but its weights and its data: the sections of config.json, frozen.

        config = Config.from_preset("nano", resolution=64)
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, lr=5e-4, flip=True))

    Sections: `net` (size of the network), `text` (encoder), `noise` (prediction, loss weight, noise levels), `train`,
    `data` (how pictures are taken in), `sample` (defaults of `Pipeline.generate`) and `distill`.

    Raises ConfigError for a setting that is out of range or unknown.
    """

    preset: str = "nano"
    net: NetConfig = field(default_factory=NetConfig)
    text: TextConfig = field(default_factory=TextConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def from_preset(cls, name: str, resolution: int | None = None) -> Config:
        """The preset "nano", "small", "base" or "large" for square pictures of so many pixels a side.

            config = Config.from_preset("nano", resolution=64)
            config = dataclasses.replace(config, train=dataclasses.replace(config.train, decay_fraction=0.5))

        Raises ConfigError for an unknown name, or a resolution that cannot be patched.
        """
        if name not in PRESETS:
            raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, not {name!r}")
        return PRESETS[name]() if resolution is None else PRESETS[name](resolution)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Read `to_json` output. Raises ConfigError for anything that is not a configuration."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"config.json is not JSON ({error}); restore it from a backup") from None
        except RecursionError:
            raise ConfigError("config.json is nested too deeply; restore it from a backup") from None
        if not isinstance(values, dict) or values.get("format") not in (1, FORMAT):
            raise ConfigError(f"config.json is not of format {FORMAT}; it needs another version of Tintype")
        renamed = RENAMED if values.pop("format") == 1 else {}
        return _build(cls, values, "config.json", renamed)


def _build(cls: type[T], values: object, where: str, renamed: Mapping[str, str]) -> T:
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must be an object of settings")
    values = {renamed.get(name, name): value for name, value in values.items()}
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"{where} has a setting this version does not know: {unknown[0]}")
    built: dict[str, Any] = {}
    for name, value in values.items():
        hint = hints[name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            built[name] = _build(hint, value, f"{where}: {name}", renamed)
        elif hint is float and type(value) in (int, float):
            built[name] = _float(name, value)
        elif type(value) is hint:
            built[name] = value
        else:
            raise ConfigError(f"{where}: {name} must be of type {hint.__name__}, not {_short(value)}")
    return cls(**built)


def _float(name: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # JSON has integers of any size
        raise ConfigError(f"{name} is far too large a number; restore config.json from a backup") from None


def _number(value: float) -> str:
    try:
        return f"{value:g}"
    except OverflowError:
        return "a number so large"


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a number so large"
    return text if len(text) <= 60 else f"{text[:60]}..."


def check(config: Config) -> None:
    """Raise ConfigError, naming the setting and its range, if any setting cannot work."""
    net, text, noise, train, sample = config.net, config.text, config.noise, config.train, config.sample
    distill = config.distill
    ranges: list[tuple[str, float, float, float]] = [
        ("resolution", net.resolution, 8, 2048),
        ("patch", net.patch, 1, 64),
        ("codec_factor", net.codec_factor, 1, 64),
        ("width", net.width, 16, 8192),
        ("depth", net.depth, 1, 200),
        ("heads", net.heads, 1, 256),
        ("channels", net.channels, 1, 64),
        ("stem_width", net.stem_width, 1, 2048),
        ("stem_depth", net.stem_depth, 0, 64),
        ("stem_levels", net.stem_levels, 1, 6),
        ("text_depth", net.text_depth, 0, 64),
        ("max_tokens", text.max_tokens, 2, 4096),
        ("vocabulary", text.vocabulary, 0, 2**20),
        ("embedding_dim", text.embedding_dim, 0, 65_536),
        ("sigma_data", noise.sigma_data, 1e-3, 1e3),
        ("log_sigma_mean", noise.log_sigma_mean, -20, 20),
        ("sigma_min", noise.sigma_min, 1e-5, 1.0),
        ("sigma_max", noise.sigma_max, 1.0, 1e5),
        ("log_sigma_std", noise.log_sigma_std, 0.01, 10),
        ("weight_fade", noise.weight_fade, 0, 1e5),
        ("images", train.images, 1, 10**13),
        ("batch_size", train.batch_size, 1, 2**20),
        ("micro_batch", train.micro_batch, 0, 2**20),
        ("lr", train.lr, 1e-8, 1.0),
        ("weight_decay", train.weight_decay, 0, 100),
        ("beta1", train.beta1, 0, 1 - 1e-9),
        ("beta2", train.beta2, 0, 1 - 1e-9),
        ("clip_norm", train.clip_norm, 0, 1e9),
        ("warmup_images", train.warmup_images, 0, 10**13),
        ("save_minutes", train.save_minutes, 0, 1e12),
        ("sample_minutes", train.sample_minutes, 0, 1e12),
        ("decay_fraction", train.decay_fraction, 0, 1),
        ("ema_width", train.ema_width, 1e-4, 0.28),
        ("ema_width_long", train.ema_width_long, 1e-4, 0.28),
        ("keep_last", train.keep_last, 1, 10**6),
        ("keep_every", train.keep_every, 0, 10**13),
        ("caption_dropout", train.caption_dropout, 0, 1),
        ("held_out", train.held_out, 0, 0.5),
        ("min_size", config.data.min_size, 0, 10_000),
        ("max_aspect", config.data.max_aspect, 1, 1000),
        ("seed", train.seed, 0, 2**63 - 1),
        ("steps", sample.steps, 1, 1000),
        ("guidance", sample.guidance, 0, 100),
        ("guidance_min", sample.guidance_min, 0, 1e5),
        ("guidance_max", sample.guidance_max, 0, 1e5),
        ("schedule_center", sample.schedule_center, 1e-3, 1e4),
        ("schedule_spread", sample.schedule_spread, 0.1, 10),
        ("distill: steps", distill.steps, 0, 100),
        ("distill: teacher_steps", distill.teacher_steps, 0, 1000),
        ("distill: guidance", distill.guidance, 0, 100),
        ("distill: guidance_min", distill.guidance_min, 0, 1e5),
        ("distill: guidance_max", distill.guidance_max, 0, 1e5),
    ]
    for name, value, low, high in ranges:
        if not low <= value <= high:  # NaN is neither
            raise ConfigError(f"{name} must be between {low:g} and {high:g}, not {_number(value)}")
    if noise.sigma_min >= noise.sigma_max:
        raise ConfigError(f"sigma_min {noise.sigma_min:g} must be below sigma_max {noise.sigma_max:g}")
    check_data(config.data)
    if net.patch % 2 ** (net.stem_levels - 1):
        raise ConfigError(f"patch {net.patch} must be a multiple of {2 ** (net.stem_levels - 1)}, for its levels")
    if any(size % max(1, size // 16) for size in (net.stem_width * 2**level for level in range(net.stem_levels))):
        raise ConfigError(f"stem_width must be a multiple of 16, or below 32, not {net.stem_width}")
    if net.resolution % net.multiple:
        raise ConfigError(f"resolution {net.resolution} must be a multiple of the patch, {net.multiple}")
    if net.width % (4 * net.heads):
        raise ConfigError(f"width {net.width} must be a multiple of 4 times the number of heads, {net.heads}")
    check_names(noise, sample)
    check_text_encoder(text.encoder)


def check_names(noise: NoiseConfig, sample: SampleConfig) -> None:
    """Raise ConfigError, naming the choices, for an unknown prediction, loss weight, sampler or schedule."""
    # Predictions and weights are named beside their formulas, which need PyTorch; whoever has a Config needs it too.
    from tintype.diffusion.loss import WEIGHTS
    from tintype.diffusion.parameterization import PREDICTIONS

    for name, value, choices in (
        ("prediction", noise.prediction, (*PREDICTIONS, *names.PREDICTION_ALIASES)),
        ("weight", noise.weight, tuple(WEIGHTS)),
        ("sampler", sample.sampler, names.SAMPLERS),
        ("schedule", sample.schedule, names.SCHEDULES),
    ):
        if value not in choices:
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {_short(value)}")


def check_text_encoder(name: str) -> None:
    """Raise ConfigError if there is no text encoder of this name."""
    is_folder = name.startswith("hf:") and 3 < len(name) <= MAX_ENCODER_NAME and name.isprintable()
    if not (name in TEXT_ENCODERS or is_folder):
        raise ConfigError(f"text must be {', '.join(TEXT_ENCODERS)} or hf:NAME-OR-FOLDER, not {_short(name)}")


def check_data(data: DataConfig) -> None:
    """Raise ConfigError for an unknown choice of preprocessing."""
    for name, value, choices in (
        ("crop", data.crop, CROPS),
        ("animations", data.animations, ANIMATIONS),
        ("no_caption", data.no_caption, NO_CAPTION),
    ):
        if value not in choices:
            raise ConfigError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, not {_short(value)}")
    try:
        codecs.lookup(data.caption_encoding)
    except (LookupError, ValueError):
        raise ConfigError(
            f"caption_encoding must be one such as latin-1, not {_short(data.caption_encoding)}"
        ) from None


def _preset(name: str, patches: int, net: NetConfig, train: TrainConfig) -> Config:
    """A configuration whose patch gives about `patches` tokens a side, with noise levels to suit the resolution."""
    if net.resolution % 4:
        raise ConfigError(f"resolution must be a multiple of 4, not {net.resolution}")
    # The stem halves the picture from level to level.
    sizes = [size for size in range(4, net.resolution + 1, 2 ** (net.stem_levels - 1)) if net.resolution % size == 0]
    patch = min(sizes, key=lambda size: abs(math.log(net.resolution / patches / size)))
    # A larger picture keeps its contents visible under more noise: the mean of ln sigma grows with ln(resolution).
    ratio = net.resolution / 32
    mean = NoiseConfig().log_sigma_mean + round(math.log(ratio), 4)
    noise = NoiseConfig(log_sigma_mean=mean, weight_fade=round(WEIGHT_FADE * ratio, 4))
    return Config(
        preset=name,
        net=dataclasses.replace(net, patch=patch),
        noise=noise,
        train=train,
        data=DataConfig(crop="none"),
    )


# Learning rates by trials over widths 128 to 448 and batches of 32 to 512 (dev/LOG.md): larger batches bear more, wide
# networks want half as much where pictures are laid out. The rate of `large` carries this on; nobody has tried it.


def nano(resolution: int = 32) -> Config:
    """About 4.4 million weights: for CPUs. From 64 pixels on, four times the tokens and a thinner, deeper stem."""
    train = TrainConfig(batch_size=32, lr=1.4e-3)
    if resolution < 64:
        return _preset("nano", 4, NetConfig(resolution=resolution, stem_depth=1), train)
    return _preset("nano", 8, NetConfig(resolution=resolution, stem_width=16, stem_depth=1, stem_levels=3), train)


def small(resolution: int = 32) -> Config:
    """About 20 million weights: one small GPU."""
    net = NetConfig(resolution=resolution, width=320, depth=10, heads=5, stem_width=64)
    return _preset("small", 8, net, TrainConfig(images=10_000_000, batch_size=512, lr=2e-3, warmup_images=250_000))


def base(resolution: int = 64) -> Config:
    """About 42 million weights: one GPU."""
    net = NetConfig(resolution=resolution, width=448, depth=12, heads=7, stem_width=64)
    return _preset("base", 16, net, TrainConfig(images=20_000_000, batch_size=512, lr=1.4e-3, warmup_images=500_000))


def large(resolution: int = 256) -> Config:
    """About 130 million weights: large GPUs."""
    net = NetConfig(resolution=resolution, width=768, depth=12, heads=12, stem_width=64)
    return _preset("large", 16, net, TrainConfig(images=100_000_000, batch_size=1024, lr=1e-3, warmup_images=2_000_000))


PRESETS: dict[str, Callable[..., Config]] = {"nano": nano, "small": small, "base": base, "large": large}
