"""Components: objects that are passed in from Python and take the place of what the configuration names."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor, nn

from tintype.config import Config
from tintype.diffusion.loss import LossWeight
from tintype.diffusion.parameterization import Prediction
from tintype.errors import ConfigError
from tintype.model.custom import qualified_name
from tintype.model.denoiser import Denoiser
from tintype.model.network import NetFactory
from tintype.training.core.custom_optimizer import OptimizerFactory

_TRIED = 8  # positions and noise levels that a component is tried with before training


class NoiseLevelSampler(Protocol):
    """Choose the noise levels of training: a pure function of the position in the run.

        def log_uniform(positions: torch.Tensor) -> torch.Tensor:
            u = uniform(0, Purpose.SIGMA, positions, 1)[:, 0]  # from tintype.diffusion.noise
            return torch.exp(math.log(0.02) + u * math.log(80 / 0.02)).float()

        for report in tintype.train("photos", "run", noise_levels=log_uniform): ...

    positions: [B] int64, the number of each sample in the run (0 for the first picture that is shown), on the CPU or a
    GPU. Returns sigma [B] float32 > 0 on the same device, where x = x0 + sigma * noise. The same positions must always
    give the same levels, or a resumed run is not the run without a stop: no global random state.

    Raises ConfigError before the first step for levels of another shape, or that are not above 0 and finite.
    """

    def __call__(self, positions: Tensor, /) -> Tensor: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Components:
    """Objects that replace those that the configuration names; None: as configured."""

    net: nn.Module | NetFactory | None = None
    prediction: Prediction | None = None
    noise_levels: NoiseLevelSampler | None = None
    loss_weight: LossWeight | None = None
    optimizer: OptimizerFactory | None = None

    def names(self) -> dict[str, str]:
        """The qualified name of each component that is given: what a run folder records."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: qualified_name(value) for name, value in values.items() if value is not None}

    def denoiser(self, config: Config, tokenizer: str | None = None) -> Denoiser:
        """A new denoiser with the network and prediction given; a network that is a module is copied."""
        net = self.net
        if isinstance(net, nn.Module):
            net = copy.deepcopy(net)
        elif net is not None:
            net = net(config)
        return Denoiser(config, tokenizer, net=net, prediction=self.prediction)

    def check(self, config: Config) -> None:
        """Try each function on a few values. Raises ConfigError for results that training could not use."""
        sigma = torch.linspace(config.noise.sigma_min, 10.0, _TRIED)
        if self.noise_levels is not None:
            levels = self.noise_levels(torch.arange(_TRIED))
            _require("noise_levels", levels)
            if not bool((levels > 0).all()):
                raise ConfigError("noise_levels must give levels above 0")
        if self.loss_weight is not None:
            _require("loss_weight", self.loss_weight(sigma))
        if self.prediction is not None:
            for name, scalar in zip(
                ("c_skip", "c_out", "c_in", "c_noise"), self.prediction(sigma, config.noise.sigma_data), strict=True
            ):
                _require(f"prediction: {name}", scalar)


def _require(name: str, values: Tensor) -> None:
    if not isinstance(values, Tensor) or values.shape != (_TRIED,) or not bool(torch.isfinite(values).all()):
        shape = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ConfigError(f"{name} must give one finite number for each sample, a tensor [B], not {shape}")
