"""The default sampler of a model as numbers, for programs that have none: a step is one weighted sum of pictures."""

from __future__ import annotations

from typing import Any

import torch

from tintype.config import Config
from tintype.diffusion.guidance import window
from tintype.diffusion.ode import PLANS, Plan, Stage
from tintype.diffusion.solver import levels_of
from tintype.errors import ConfigError
from tintype.pipeline.request import Options, Request, make_request
from tintype.pipeline.start import request_sigmas


def sampling_plan(config: Config) -> dict[str, Any]:
    """The sampler, guidance and steps of a picture of the usual size, as JSON.

    A step has its noise level `sigma`, the `guidance` that acts there (1: none, the network is asked without the empty
    caption) and the weights of a `Stage`.

    Raises ConfigError for a sampler that is no weighted sum, such as heun.
    """
    request, stages = planned(config, {})
    scale, (low, high) = request.guidance[0], request.guidance_interval
    return {
        "sampler": str(request.sampler),
        "steps": len(stages),
        "guidance": scale,
        "guidance_interval": [low, high],
        "plan": [_step(stage, scale, (low, high)) for stage in stages],
    }


def planned(config: Config, options: Options) -> tuple[Request, Plan]:
    """A request of the usual size with these options, and the plan of its sampler. Raises ConfigError."""
    request = make_request(config, "", options)
    name = str(request.sampler)
    if name not in PLANS:
        raise ConfigError(
            f"the sampler {name} of this model cannot be exported; make one of {', '.join(PLANS)} the sampler in its "
            "config.json"
        )
    return request, PLANS[name](levels_of(request_sigmas(request, config.noise)))


def _step(stage: Stage, scale: float, interval: tuple[float, float]) -> dict[str, Any]:
    share = float(window(torch.tensor([stage.sigma], dtype=torch.float32), interval))
    return {
        "sigma": stage.sigma,
        "guidance": 1 + (scale - 1) * share,
        "corrector_keep": stage.corrector_keep,
        "correct": list(stage.correct),
        "keep": stage.keep,
        "predict": list(stage.predict),
    }
