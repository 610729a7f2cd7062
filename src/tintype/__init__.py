"""Tintype: turn a folder of captioned pictures into your own text-to-image model, and watch each picture develop."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tintype._version import __version__

if TYPE_CHECKING:
    from tintype.config import Config
    from tintype.diffusion.samplers import Step
    from tintype.errors import CheckpointError, ConfigError, DataError, MissingExtraError, TintypeError, TrainingError
    from tintype.model.denoiser import Denoiser
    from tintype.model.nets.conditioning import Conditioning
    from tintype.pipeline.pipeline import Pipeline
    from tintype.pipeline.receipt import Receipt
    from tintype.training.core.trainer import Trainer

__all__ = [
    "CheckpointError",
    "Conditioning",
    "Config",
    "ConfigError",
    "DataError",
    "Denoiser",
    "MissingExtraError",
    "Pipeline",
    "Receipt",
    "Step",
    "TintypeError",
    "Trainer",
    "TrainingError",
    "__version__",
]

# Read on first use, so that `import tintype` and `tintype --help` do not wait for torch.
_HOMES = {
    "CheckpointError": "tintype.errors",
    "Conditioning": "tintype.model.nets.conditioning",
    "Config": "tintype.config",
    "ConfigError": "tintype.errors",
    "DataError": "tintype.errors",
    "Denoiser": "tintype.model.denoiser",
    "MissingExtraError": "tintype.errors",
    "Pipeline": "tintype.pipeline.pipeline",
    "Receipt": "tintype.pipeline.receipt",
    "Step": "tintype.diffusion.samplers",
    "TintypeError": "tintype.errors",
    "Trainer": "tintype.training.core.trainer",
    "TrainingError": "tintype.errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'tintype' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
