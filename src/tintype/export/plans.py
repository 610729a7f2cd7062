"""Plans of pictures as numbers: all that a sampler and a prediction make of the noise levels.

A plan has a row of numbers for each evaluation; page/sampler.js reads them by these names:

    sigma  window  skip  out  in  noise  correctorKeep  keep  numCorrect  numPredict  corrections (3)  predictions (4)

window: the share of guidance that acts at this noise level. skip, out, in, noise: the scalars of the prediction. The
rest is the `Stage` of the sampler.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tintype.config import Config
from tintype.diffusion.guidance import window
from tintype.diffusion.ode import Stage
from tintype.diffusion.parameterization import scalings
from tintype.export.sampling import planned
from tintype.pipeline.request import STRONG_GUIDANCE

MAX_STEPS = 50  # that can be chosen; a model whose own number is larger has that one too
MAX_CORRECT, MAX_PREDICT = 3, 4


class Plans(NamedTuple):
    """Plans by number of steps, each [evaluations, numbers] float32.

    strong: for guidance above STRONG_GUIDANCE; empty where the same plans serve.
    """

    usual: dict[int, Tensor]
    strong: dict[int, Tensor]


def make_plans(config: Config) -> Plans:
    """The plans of a model's own sampler at its usual size. Raises ConfigError for a sampler that has none."""
    numbers = sorted({*range(1, MAX_STEPS + 1), config.sample.steps})
    usual = {number: _plan(config, number, 1.0) for number in numbers}
    strong = {number: _plan(config, number, STRONG_GUIDANCE + 1) for number in numbers}
    same = all(torch.equal(usual[number], strong[number]) for number in numbers)
    return Plans(usual, {} if same else strong)


def _plan(config: Config, steps: int, guidance: float) -> Tensor:
    request, stages = planned(config, {"steps": steps, "guidance": guidance})
    sigma = torch.tensor([stage.sigma for stage in stages], dtype=torch.float32)
    scalars = scalings(config.noise.prediction, sigma, config.noise.sigma_data)
    shares = window(sigma, request.guidance_interval)
    return torch.stack([sigma, shares, *scalars, *torch.tensor([_row(stage) for stage in stages]).T], dim=1)


def _row(stage: Stage) -> list[float]:
    numbers = [stage.corrector_keep, stage.keep, float(len(stage.correct)), float(len(stage.predict))]
    return [
        *numbers,
        *stage.correct,
        *[0.0] * (MAX_CORRECT - len(stage.correct)),
        *stage.predict,
        *[0.0] * (MAX_PREDICT - len(stage.predict)),
    ]
