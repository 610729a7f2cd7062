"""Settings of a model and of the run that trains it."""

from tintype.config.check import ANIMATIONS, CAPTION_FROM, CROPS, NO_CAPTION, REPEATS, check_text_encoder
from tintype.config.config import PRESETS, Config, nano, noise_at, small
from tintype.config.data_options import DataOptions, given_settings
from tintype.config.sections import (
    DataConfig,
    DistillConfig,
    NetConfig,
    NoiseConfig,
    SampleConfig,
    TextConfig,
    TrainConfig,
)

__all__ = [
    "ANIMATIONS",
    "CAPTION_FROM",
    "CROPS",
    "Config",
    "DataConfig",
    "DataOptions",
    "DistillConfig",
    "NO_CAPTION",
    "REPEATS",
    "NetConfig",
    "NoiseConfig",
    "PRESETS",
    "SampleConfig",
    "TextConfig",
    "TrainConfig",
    "check_text_encoder",
    "given_settings",
    "nano",
    "noise_at",
    "small",
]
