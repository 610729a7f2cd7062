"""Configurations: the settings of a model and of the run that trains it, frozen, complete, saved as JSON; presets."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

from tintype.config.check import (
    check_data,
    check_names,
    check_net,
    check_ranges,
    check_sizes,
    check_text_encoder,
    short,
)
from tintype.config.sections import (
    DataConfig,
    DistillConfig,
    NetConfig,
    NoiseConfig,
    SampleConfig,
    TextConfig,
    TrainConfig,
)
from tintype.config.sizes import Size, parse_sizes
from tintype.errors import ConfigError

T = TypeVar("T")
WEIGHT_FADE = 4.0  # weight_fade at a resolution of 32, by trials (dev/LOG.md)
LOG_SIGMA_STD_GROWTH = 0.15  # of log_sigma_std, each time a picture doubles its side
MIN_HEAD_RESOLUTION = 128  # pixels, from which a stem at full size costs more than it teaches (dev/LOG.md)
MIN_LOG_SIGMA_STD = 0.5  # of pictures far smaller than 32 pixels
FORMAT = 2  # of config.json; raised when an older Tintype can no longer read it
RENAMED = {  # names of settings in format 1 -> today's
    "grid": "schedule",
    "grid_center": "schedule_center",
    "grid_spread": "schedule_spread",
    "state_width": "embedding_dim",
}


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
        check_ranges(self.net, self.text, self.noise, self.train, self.data, self.sample, self.distill)
        check_data(self.data)
        check_net(self.net)
        check_names(self.noise, self.sample)
        check_sizes(self.net, self.sample)
        check_text_encoder(self.text.encoder)

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

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Width and height of most training pictures, the most usual first."""
        return parse_sizes(self.sample.sizes) or ((self.net.resolution, self.net.resolution),)

    @property
    def default_size(self) -> Size:
        """Width and height of a picture for which none are given."""
        return self.sizes[0]

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
        return build_settings(cls, values, "config.json", renamed)


def build_settings(cls: type[T], values: object, where: str, renamed: Mapping[str, str]) -> T:
    """Settings read from JSON as a dataclass whose fields are numbers, texts or such dataclasses.

    where: what they were read from, for messages. renamed: older names of settings. Raises ConfigError.
    """
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
            built[name] = build_settings(hint, value, f"{where}: {name}", renamed)
        elif hint is float and type(value) in (int, float):
            built[name] = _float(name, value)
        elif type(value) is hint:
            built[name] = value
        else:
            raise ConfigError(f"{where}: {name} must be of type {hint.__name__}, not {short(value)}")
    return cls(**built)


def _float(name: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # JSON has integers of any size
        raise ConfigError(f"{name} is far too large a number; restore config.json from a backup") from None


def noise_at(noise: NoiseConfig, ratio: float) -> NoiseConfig:
    """The noise levels of training for pictures `ratio` times as large along a side.

    A larger picture keeps its contents visible under more noise, but its texture drowns in as little as before: the
    mean of ln sigma grows with half of ln(ratio), and the levels spread. By trials at 32 and 128 pixels (dev/LOG.md).
    """
    return dataclasses.replace(
        noise,
        log_sigma_mean=round(noise.log_sigma_mean + 0.5 * math.log(ratio), 4),
        log_sigma_std=round(max(MIN_LOG_SIGMA_STD, noise.log_sigma_std + LOG_SIGMA_STD_GROWTH * math.log2(ratio)), 4),
        weight_fade=round(noise.weight_fade * ratio, 4),
    )


def _preset(name: str, patches: int, net: NetConfig, train: TrainConfig) -> Config:
    """A configuration whose patch gives about `patches` tokens a side, with noise levels to suit the resolution."""
    if net.resolution % 4:
        raise ConfigError(f"resolution must be a multiple of 4, not {net.resolution}")
    step = net.patch_multiple
    sizes = [size for size in range(max(4, step), net.resolution + 1, step) if net.resolution % size == 0]
    patch = min(sizes, key=lambda size: abs(math.log(net.resolution / patches / size)))
    ratio = net.resolution / 32
    noise = noise_at(NoiseConfig(weight_fade=WEIGHT_FADE), ratio)
    # What a picture shows is decided at more noise in larger pictures: guidance acts up to there.
    sample = SampleConfig(guidance_max=SampleConfig().guidance_max * max(1.0, ratio))
    return Config(
        preset=name,
        net=dataclasses.replace(net, patch=patch),
        text=TextConfig(encoder="auto"),
        noise=noise,
        train=dataclasses.replace(train, stop_early=True),
        data=DataConfig.of_new_runs(),
        sample=sample,
    )


# Learning rates by trials over widths 128 to 448 and batches of 32 to 512 (dev/LOG.md): larger batches bear more, wide
# networks want half as much where pictures are laid out. The rate of `large` carries this on; nobody has tried it.


def nano(resolution: int = 32) -> Config:
    """About 4.4 million weights: for CPUs. At 64 pixels with a thinner, deeper stem, from 128 on with a smaller one.

    From 128 pixels on most samples are of half the size until the learning rate falls.
    """
    train = TrainConfig(batch_size=32, lr=1.4e-3)
    if resolution < 64:
        return _preset("nano", 4, NetConfig(resolution=resolution, stem_depth=1), train)
    if resolution < 128:
        return _preset("nano", 8, NetConfig(resolution=resolution, stem_width=16, stem_depth=1, stem_levels=3), train)
    net = _with_head(NetConfig(resolution=resolution, stem_depth=1), 8, 48 if resolution < 256 else 64)
    return _preset("nano", 8, net, dataclasses.replace(train, half_size=0.9))


def small(resolution: int = 32) -> Config:
    """About 20 million weights: one small GPU."""
    net = NetConfig(resolution=resolution, width=320, depth=10, heads=5, stem_width=64)
    train = TrainConfig(images=10_000_000, batch_size=512, lr=2e-3, warmup_images=250_000)
    return _preset("small", 8, _with_head(net, 8, 96), train)


def base(resolution: int = 64) -> Config:
    """About 42 million weights: one GPU."""
    net = NetConfig(resolution=resolution, width=448, depth=12, heads=7, stem_width=64)
    train = TrainConfig(images=20_000_000, batch_size=512, lr=1.4e-3, warmup_images=500_000)
    return _preset("base", 16, _with_head(net, 16, 96), train)


def large(resolution: int = 256) -> Config:
    """About 120 million weights: large GPUs."""
    net = NetConfig(resolution=resolution, width=768, depth=12, heads=12, stem_width=64)
    train = TrainConfig(images=100_000_000, batch_size=1024, lr=1e-3, warmup_images=2_000_000)
    return _preset("large", 16, _with_head(net, 16, 128, head_width=32), train)


def _with_head(net: NetConfig, patches: int, stem_width: int, head_width: int = 16) -> NetConfig:
    """From 128 pixels on: `net` with a stem that starts smaller, and a thin head at full size (`model/nets/dit.py`).

    patches: tokens a side. The stem starts at a quarter of the size, or at four positions along a token's side if that
    is less.
    """
    if net.resolution < MIN_HEAD_RESOLUTION:
        return net
    factor = 4
    while 2 * factor * 4 * patches <= net.resolution:
        factor *= 2
    while factor > 1 and net.resolution % (2 * factor):  # sizes such as 132 pixels
        factor //= 2
    return dataclasses.replace(net, stem_width=stem_width, stem_factor=factor, head_width=head_width, write_kernel=1)


PRESETS: dict[str, Callable[..., Config]] = {"nano": nano, "small": small, "base": base, "large": large}
