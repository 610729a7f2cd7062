"""The files that make a model folder one that diffusers loads. They name code of this package and hold none themselves.

model_index.json  pipeline.py  denoiser/model.py  scheduler/scheduler_config.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tintype.config import Config
from tintype.model import checkpoint
from tintype.pipeline.request import make_request
from tintype.pipeline.start import request_sigmas

MODEL_INDEX = "model_index.json"
CODE = {  # file -> the class that it imports; each folder that was ever exported relies on these modules and names
    "pipeline.py": ("tintype.export.diffusers.pipeline", "TintypePipeline"),
    "denoiser/model.py": ("tintype.export.diffusers.denoiser", "TintypeDenoiser"),
}
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
FILES = (MODEL_INDEX, *CODE, SCHEDULER_CONFIG)
NUM_LEVELS = 1000  # noise levels in the table of a scheduler, its "training timesteps"
LEAST_RATIO = 0.9996  # between neighbors, so that schedulers can tell them apart in float32

# The scheduler of diffusers that does what a sampler does, or, for those that diffusers lacks, comes nearest to it.
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "unipc": ("UniPCMultistepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "ddim": ("EulerDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "heun_churn": ("HeunDiscreteScheduler", {}),
    "ddpm": ("EulerAncestralDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
}
NEAREST = ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"})  # that is dpmpp_2m


def write_layout(folder: Path, config: Config) -> None:
    """Add to a model folder what diffusers reads, with the scheduler of its sampler. Raises CheckpointError."""
    content = scheduler_config(config)
    write_index(folder, content["_class_name"])
    (folder / SCHEDULER_CONFIG).parent.mkdir(exist_ok=True)
    checkpoint.write_text(folder / SCHEDULER_CONFIG, json.dumps(content) + "\n")


def write_index(folder: Path, scheduler: str) -> None:
    """Write model_index.json for a scheduler of diffusers, by its name, and the two files of code that it names.

    The code imports its classes from this package. Raises CheckpointError.
    """
    components = {"_class_name": "pipeline.py", "denoiser": "denoiser/model.py"}
    index = {part: [Path(file).stem, CODE[file][1]] for part, file in components.items()}
    index["scheduler"] = ["diffusers", scheduler]
    checkpoint.write_text(folder / MODEL_INDEX, json.dumps(index, indent=2) + "\n")
    for file, (module, name) in CODE.items():
        (folder / file).parent.mkdir(exist_ok=True)
        lines = f'"""Needs: pip install tintype diffusers"""\n\nfrom {module} import {name}\n\n__all__ = ["{name}"]\n'
        checkpoint.write_text(folder / file, lines)


def scheduler_config(config: Config) -> dict[str, Any]:
    """The scheduler of a model's sampler, in settings that every one with a table of noise levels understands."""
    name, settings = SCHEDULERS.get(config.sample.sampler, NEAREST)
    return {
        "_class_name": name,
        **settings,
        "num_train_timesteps": NUM_LEVELS,
        "trained_betas": betas(noise_levels(config)),
        "timestep_spacing": "trailing",
        "prediction_type": "epsilon",  # every scheduler knows it; the pipeline converts
        "clip_sample": False,
    }


def noise_levels(config: Config) -> list[float]:
    """The noise levels of a scheduler's table for pictures of the usual size, NUM_LEVELS of them, rising.

    Schedulers read the table from its end in even parts ("trailing"). In the model's own number of steps they then meet
    the levels of its schedule; other numbers of steps meet levels between them, interpolated in ln sigma.
    """
    levels = request_sigmas(make_request(config, "", {}), config.noise)[:-1].flip(0).numpy()
    steps = len(levels)
    places = [round(NUM_LEVELS - index * NUM_LEVELS / steps) - 1 for index in reversed(range(steps))]
    if places[0] > 0:
        lowest = min(config.noise.sigma_min, levels[0] * LEAST_RATIO ** places[0])
        places, levels = [0, *places], np.concatenate([[lowest], levels])
    table: list[float] = np.exp(np.interp(np.arange(NUM_LEVELS), places, np.log(levels))).tolist()
    return table


def betas(levels: list[float]) -> list[float]:
    """The betas of DDPM whose noise levels are these, rising: alpha_bar = 1 / (1 + sigma^2)."""
    sigmas = torch.tensor(levels, dtype=torch.float64)
    bars = torch.cat([torch.ones(1, dtype=torch.float64), 1 / (1 + sigmas.square())])
    values: list[float] = (1 - bars[1:] / bars[:-1]).tolist()
    return values
