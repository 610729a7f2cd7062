"""Schedulers of diffusers by Tintype's one clock: how much picture and how much noise their samples hold.

    sample = signal * x0 + noise * eps          sigma = noise / signal

Three conventions occur: variance preserving (signal^2 + noise^2 = 1), variance exploding (signal = 1) and flow
(signal + noise = 1). What a scheduler asks of a network follows from x0 and these two numbers.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.sigmas import flow_time
from tintype.errors import ConfigError, MissingExtraError

try:
    import diffusers
except ImportError:
    raise MissingExtraError("diffusers", "diffusers") from None

EXPLODING = (
    diffusers.EulerDiscreteScheduler,
    diffusers.EulerAncestralDiscreteScheduler,
    diffusers.HeunDiscreteScheduler,
    diffusers.LMSDiscreteScheduler,
)
PRESERVING = (
    diffusers.DPMSolverMultistepScheduler,
    diffusers.DPMSolverSinglestepScheduler,
    diffusers.UniPCMultistepScheduler,
    diffusers.DEISMultistepScheduler,
    diffusers.DDIMScheduler,
    diffusers.DDPMScheduler,
)
FLOW = (diffusers.FlowMatchEulerDiscreteScheduler, diffusers.FlowMatchHeunDiscreteScheduler)
OWN_SPACING = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")


class Amounts(NamedTuple):
    """sample = signal * x0 + noise * eps."""

    signal: float
    noise: float


class Clock:
    """What a scheduler takes and gives at each of its steps. Raises ConfigError for one of an unknown kind."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler, self.config = scheduler, scheduler.config
        self.is_flow = isinstance(scheduler, FLOW) or bool(self.config.get("use_flow_sigmas"))
        self.explodes = isinstance(scheduler, EXPLODING)
        if not isinstance(scheduler, (*EXPLODING, *PRESERVING, *FLOW)):
            known = ", ".join(kind.__name__ for kind in (*PRESERVING, *EXPLODING, *FLOW))
            raise ConfigError(
                f"{type(scheduler).__name__} cannot run this model; make one of these with from_config: {known}"
            )
        if self.config.get("invert_sigmas"):
            raise ConfigError("this scheduler runs from pictures to noise; leave invert_sigmas out")
        prediction = "flow_prediction" if isinstance(scheduler, FLOW) else self.config.get("prediction_type", "epsilon")
        if prediction not in OUTPUTS:
            raise ConfigError(f"prediction_type must be one of {', '.join(OUTPUTS)}, not {prediction!r}")
        self.output = OUTPUTS[prediction]

    @property
    def takes_levels(self) -> bool:
        """Whether the scheduler can be told its noise levels, and was not told to choose them itself."""
        parameters = inspect.signature(self.scheduler.set_timesteps).parameters
        chooses = any(self.config.get(name) for name in OWN_SPACING)
        return "sigmas" in parameters and (self.is_flow or self.explodes) and not chooses

    def start(self, num_steps: int, levels: Sequence[float] | None, device: torch.device) -> None:
        """Set the steps: the noise levels [K + 1], decreasing to 0, or where there are none those of the scheduler.

        Raises ConfigError for levels that the scheduler cannot be told.
        """
        if levels is None:
            self.scheduler.set_timesteps(num_steps, device=device)
        elif not self.takes_levels:
            raise ConfigError(f"{type(self.scheduler).__name__} with these settings takes no sigmas; leave them out")
        elif self.is_flow:
            times = flow_time(torch.tensor(levels[:-1], dtype=torch.float64)).numpy()
            self.scheduler.set_timesteps(sigmas=times, device=device)
        else:
            self.scheduler.set_timesteps(sigmas=list(levels), device=device)
        if hasattr(self.scheduler, "set_begin_index"):  # it would look for the first step by a timestep that may repeat
            self.scheduler.set_begin_index(0)

    def amounts(self, index: int) -> Amounts:
        """The amounts at the start of step `index`. Raises ConfigError for a schedule that is not of its kind."""
        if not hasattr(self.scheduler, "sigmas"):
            bar = float(self.scheduler.alphas_cumprod[int(self.scheduler.timesteps[index])])
            return Amounts(math.sqrt(bar), math.sqrt(1 - bar))
        level = float(self.scheduler.sigmas[index])
        if self.is_flow:
            if level > 1:
                raise ConfigError("this scheduler has flow sigmas above 1; leave its other schedules out")
            return Amounts(1 - level, level)
        if self.explodes:
            return Amounts(1.0, level)
        total = math.sqrt(1 + level**2)
        return Amounts(1 / total, level / total)

    def step_options(self, generator: Any) -> dict[str, Any]:
        """What `step` takes beside the sample: the generator, for schedulers that add noise."""
        takes = "generator" in inspect.signature(self.scheduler.step).parameters
        return {"generator": generator} if takes else {}


def denoise_sample(denoise: Denoise, sample: Tensor, amounts: Amounts, limits: tuple[float, float]) -> Tensor:
    """The predicted clean pictures of a scheduler's sample, both [B, C, H, W].

    limits: the noise levels of training. Above them the sample, nearly all noise, is scaled to the highest. Below them
    the network is asked at the lowest, and of the noise that it sees there the share is taken that the level has: a
    sampler divides by the level, so that the error of a prediction for more noise would be multiplied.
    """
    lowest, highest = limits
    if amounts.noise > highest * amounts.signal:
        return denoise(sample * (highest / amounts.noise), sample.new_full((len(sample),), highest))
    x, sigma = sample / amounts.signal, amounts.noise / amounts.signal
    if sigma >= lowest:
        return denoise(x, sample.new_full((len(x),), sigma))
    return torch.lerp(x, denoise(x, x.new_full((len(x),), lowest)), sigma / lowest)


def _noise(sample: Tensor, x0: Tensor, amounts: Amounts) -> Tensor:
    return (sample - amounts.signal * x0) / amounts.noise


# prediction_type of diffusers -> what the network would have said, from the sample and its prediction of x0. Its
# "v_prediction" is that of Salimans and Ho 2022, arXiv 2202.00512, and of the variance-preserving form of the sample.
OUTPUTS: dict[str, Callable[[Tensor, Tensor, Amounts], Tensor]] = {
    "epsilon": _noise,
    "sample": lambda sample, x0, amounts: x0,
    "flow_prediction": lambda sample, x0, amounts: _noise(sample, x0, amounts) - x0,
    "v_prediction": lambda sample, x0, amounts: (
        (amounts.signal * _noise(sample, x0, amounts) - amounts.noise * x0) / math.hypot(*amounts)
    ),
}
