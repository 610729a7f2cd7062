"""The configuration of a run: from a request, a preset, a model or a stored run; and what may change on resume."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import torch

from tintype.config import PRESETS, Config, TextConfig, given_settings, noise_at
from tintype.errors import CheckpointError, ConfigError
from tintype.training.setup.request import TrainRequest

MAX_WARMUP = 0.1  # of the planned images, for short runs
CHANGEABLE = {  # settings that may change on resume: length, checkpoints, memory
    *("train.images", "train.planned_images", "train.stop_early", "train.warmup_images", "train.micro_batch"),
    *("train.save_minutes", "train.sample_minutes", "train.keep_last", "train.keep_every", "train.keep_best"),
    "distill.teacher",
}


def resolve_config(request: TrainRequest, device: torch.device, base: Config | None) -> Config:
    """The settings of a request; all others come from `base` (a stored run or a model) or a preset.

    Raises ConfigError for settings that are out of range or exclude each other.
    """
    if sum(length is not None for length in (request.minutes, request.steps, request.images)) > 1:
        raise ConfigError("give only one of --time, --steps and --images")
    if request.minutes is not None and not request.minutes > 0:
        raise ConfigError(f"--time must be longer than 0, not {request.minutes:g} minutes")
    if request.preset is not None and request.config is not None:
        raise ConfigError("give either a preset or a config")
    if request.preset is not None and request.preset not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, not {request.preset!r}")
    config = as_planned(_base(request, device, base))
    if request.text is not None and request.text != config.text.encoder:
        config = replace(config, text=TextConfig(encoder=request.text))
    if config.text.encoder == "auto" and base is not None:  # chosen already, but for a base that is only a preset
        config = replace(config, text=base.text)
    train = replace(config.train, **given_settings(config.train, request))
    if request.steps is not None:
        train = replace(train, images=request.steps * train.batch_size)
    config = replace(config, train=train, data=request.data_options.applied_to(config.data))
    return with_images(config, train.images)


def as_planned(config: Config) -> Config:
    """The same configuration at the length that it had before early stopping moved its end."""
    train = config.train
    if not train.planned_images:
        return config
    return replace(config, train=replace(train, images=train.planned_images, planned_images=0))


def stopped_at(config: Config, images: int) -> Config:
    """The configuration of a run that early stopping told to end at `images`; `config` is as the run was planned."""
    train = config.train
    if not train.stop_early or images >= train.images:
        return config
    return replace(config, train=replace(train, images=images, planned_images=train.images))


def with_images(config: Config, images: int) -> Config:
    """The same configuration for a run of `images`, with a warm-up that fits."""
    warmup = min(config.train.warmup_images, int(MAX_WARMUP * images))
    return replace(config, train=replace(config.train, images=images, warmup_images=warmup))


def _base(request: TrainRequest, device: torch.device, base: Config | None) -> Config:
    if base is None:
        preset = request.preset or preset_for(device, request.resolution)
        return _preset(preset, request.resolution)
    if request.preset is not None and request.preset != base.preset:
        return _preset(request.preset, request.resolution or base.net.resolution)
    if request.resolution is not None and request.resolution != base.net.resolution:
        return at_resolution(base, request.resolution)
    return base


def at_resolution(config: Config, resolution: int) -> Config:
    """The same model for pictures of another size, with the same patch size; noise levels scale with the resolution.

    Raises ConfigError if the patch does not divide the resolution.
    """
    ratio = resolution / config.net.resolution
    sample = config.sample
    return replace(
        config,
        net=replace(config.net, resolution=resolution),
        noise=noise_at(config.noise, ratio),
        sample=replace(
            sample,
            guidance_max=round(sample.guidance_max * max(1.0, ratio), 4),
            sizes="",
        ),
    )


def require_fitting(config: Config, model: Config, name: str) -> None:
    """Raise ConfigError if a run of `config` cannot start from the weights of `model`."""
    if config.text.encoder != model.text.encoder:
        raise ConfigError(
            f"{name} was trained with text encoder {model.text.encoder}, not {config.text.encoder}; "
            "leave out --text, or --from"
        )
    if replace(config.net, resolution=model.net.resolution) != model.net:
        raise ConfigError(f"{name} has another network than preset {config.preset}; leave out --preset")
    if config.noise.prediction != model.noise.prediction:
        raise ConfigError(f"{name} predicts {model.noise.prediction}, not {config.noise.prediction}")


def _preset(name: str, resolution: int | None) -> Config:
    return PRESETS[name]() if resolution is None else PRESETS[name](resolution)


def preset_for(device: torch.device, resolution: int | None) -> str:
    """The largest preset that is sensible on a device at a resolution."""
    if device.type != "cuda":
        return "nano"
    if resolution is None or resolution <= 64:
        return "small"
    return "base" if resolution <= 128 else "large"


def require_same(stored: Config, config: Config) -> list[str]:
    """The settings of a resumed run that differ from the stored ones, one line each; all of them may change.

    Raises CheckpointError naming the first settings that may not.
    """
    changed = [
        (name, f"{name} was {old!r} and is {new!r} now")
        for (name, old), (_, new) in zip(_flat(stored), _flat(config), strict=True)
        if old != new
    ]
    fixed = [line for name, line in changed if name not in CHANGEABLE]
    if fixed:
        more = f" and {len(fixed) - 3} more" if len(fixed) > 3 else ""
        raise CheckpointError(
            f"the run was started with other settings: {'; '.join(fixed[:3])}{more}. Give the same settings to resume, "
            "or another --out (with --from and this run to start from its weights)"
        )
    return [line for _, line in changed]


def _flat(config: Config) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for section in dataclasses.fields(config):
        value = getattr(config, section.name)
        if dataclasses.is_dataclass(value):
            flat += [
                (f"{section.name}.{entry.name}", getattr(value, entry.name)) for entry in dataclasses.fields(value)
            ]
        else:
            flat.append((section.name, value))
    return flat
