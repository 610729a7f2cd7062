"""Tintype: turn a folder of captioned pictures into your own text-to-image model, and watch each picture develop.

    import tintype

    tintype.Pipeline.load("shapes").generate("a red circle")[0].save("circle.png")

    for report in tintype.train("photos", "run", minutes=30):  # a folder of pictures with captions
        print(report.images_seen, report.loss)

Pictures: `Pipeline` with `Options`, `Receipt`, `Step`; `sample` with a sampler of `SAMPLERS` and noise levels of
`SCHEDULES`; `Query`, what a sampler yields. `export_model` writes a model in other forms, `import_model`
reads them. `TokenWriter` writes pictures token by token.
Training: `train`, `StepReport`, `Config`, `load_dataset`; `Trainer` and `Denoiser` below them.
To pass in: `CaptionedImages`, `Network`, `Prediction` with `Scalings`, `NoiseLevelSampler`, `LossWeight`,
`OptimizerFactory`. `help(tintype.NAME)` has an example of each.
"""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

from tintype._version import __version__

if _TYPE_CHECKING:
    from tintype.config import Config
    from tintype.data.dataset import Dataset, load_dataset
    from tintype.data.sources.objects import CaptionedImages
    from tintype.diffusion.loss import LossWeight
    from tintype.diffusion.parameterization import Prediction, Scalings
    from tintype.diffusion.samplers import SAMPLERS, Query, Step, sample
    from tintype.diffusion.sigmas import SCHEDULES
    from tintype.errors import CheckpointError, ConfigError, DataError, MissingExtraError, TintypeError, TrainingError
    from tintype.export.forms import export_model
    from tintype.export.importing.import_model import import_model
    from tintype.model.denoiser import Denoiser
    from tintype.model.nets.conditioning import CaptionKV, Conditioning
    from tintype.model.network import Network
    from tintype.pipeline.pipeline import Pipeline
    from tintype.pipeline.receipt import Receipt
    from tintype.pipeline.request import Options
    from tintype.tokens.writer import TokenWriter
    from tintype.training.api import train
    from tintype.training.core.components import NoiseLevelSampler
    from tintype.training.core.custom_optimizer import OptimizerFactory
    from tintype.training.core.trainer import StepReport, Trainer

# Loaded on first use, so that `import tintype` and `tintype --help` do not wait for torch.
_MODULES = {
    "SAMPLERS": "tintype.diffusion.samplers",
    "SCHEDULES": "tintype.diffusion.sigmas",
    "CaptionKV": "tintype.model.nets.conditioning",
    "CaptionedImages": "tintype.data.sources.objects",
    "CheckpointError": "tintype.errors",
    "Conditioning": "tintype.model.nets.conditioning",
    "Config": "tintype.config",
    "ConfigError": "tintype.errors",
    "DataError": "tintype.errors",
    "Dataset": "tintype.data.dataset",
    "Denoiser": "tintype.model.denoiser",
    "LossWeight": "tintype.diffusion.loss",
    "MissingExtraError": "tintype.errors",
    "Network": "tintype.model.network",
    "NoiseLevelSampler": "tintype.training.core.components",
    "OptimizerFactory": "tintype.training.core.custom_optimizer",
    "Options": "tintype.pipeline.request",
    "Pipeline": "tintype.pipeline.pipeline",
    "Prediction": "tintype.diffusion.parameterization",
    "Query": "tintype.diffusion.samplers",
    "Receipt": "tintype.pipeline.receipt",
    "Scalings": "tintype.diffusion.parameterization",
    "Step": "tintype.diffusion.samplers",
    "StepReport": "tintype.training.core.trainer",
    "TintypeError": "tintype.errors",
    "TokenWriter": "tintype.tokens.writer",
    "Trainer": "tintype.training.core.trainer",
    "TrainingError": "tintype.errors",
    "export_model": "tintype.export.forms",
    "import_model": "tintype.export.importing.import_model",
    "load_dataset": "tintype.data.dataset",
    "sample": "tintype.diffusion.samplers",
    "train": "tintype.training.api",
}
__all__ = [
    "CaptionKV",
    "CaptionedImages",
    "CheckpointError",
    "Conditioning",
    "Config",
    "ConfigError",
    "DataError",
    "Dataset",
    "Denoiser",
    "LossWeight",
    "MissingExtraError",
    "Network",
    "NoiseLevelSampler",
    "OptimizerFactory",
    "Options",
    "Pipeline",
    "Prediction",
    "Query",
    "Receipt",
    "SAMPLERS",
    "SCHEDULES",
    "Scalings",
    "Step",
    "StepReport",
    "TintypeError",
    "TokenWriter",
    "Trainer",
    "TrainingError",
    "__version__",
    "export_model",
    "import_model",
    "load_dataset",
    "sample",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'tintype' has no attribute {name!r}")
    value = getattr(_importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
