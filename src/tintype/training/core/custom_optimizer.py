"""An optimizer passed in from Python: its learning rate follows the schedule, its state is saved by weight name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tintype.config import TrainConfig
from tintype.errors import CheckpointError, ConfigError

_GROUP, _NUMBER = "group", "number"  # prefixes in a checkpoint: settings of a group, Python numbers of a weight


class OptimizerFactory(Protocol):
    """Make the optimizer of a run: a function of the model and the training settings.

        def sgd(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
            return torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9)

        for report in tintype.train("photos", "run", optimizer=sgd): ...

    `model` has every weight that is trained (`named_parameters()`), text layers included; `config` has `lr`,
    `weight_decay`, `beta1`, `beta2`, `images` and `batch_size`. In each step the rate of a group is what the factory
    gave it, times the schedule (warm-up, constant, linear decay to 0) that is 1 between them. The state is saved in
    every checkpoint and restored by `Optimizer.load_state_dict`: it may hold tensors and numbers for each weight.

    Raises ConfigError at the start of the run for something that is no torch optimizer or steps other weights.
    """

    def __call__(self, model: nn.Module, config: TrainConfig, /) -> torch.optim.Optimizer: ...


class CustomOptimizer:
    """The optimizer that a factory makes for a model, with the methods of `Optimizers`."""

    def __init__(self, model: nn.Module, factory: OptimizerFactory, config: TrainConfig) -> None:
        self._optimizer = factory(model, config)
        if not isinstance(self._optimizer, torch.optim.Optimizer):
            raise ConfigError(f"optimizer must make a torch.optim.Optimizer, not {type(self._optimizer).__name__}")
        names = {id(weight): name for name, weight in model.named_parameters()}
        groups = self._optimizer.param_groups
        if any(id(weight) not in names for group in groups for weight in group["params"]):
            raise ConfigError("optimizer steps a weight that is not in the model; give it the weights of its argument")
        self._names = [names[id(weight)] for group in groups for weight in group["params"]]  # by torch's numbering
        self._scales = [float(group["lr"]) / config.lr for group in groups]

    def set_lr(self, lr: float) -> None:
        for group, scale in zip(self._optimizer.param_groups, self._scales, strict=True):
            group["lr"] = lr * scale

    def zero_grad(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        self._optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Flat tensors: `KEY/NAME` by weight name, `number/KEY/NAME` for Python numbers, `group/INDEX/KEY`.

        Raises ConfigError for a state that is neither tensor nor number.
        """
        saved: dict[str, Tensor] = {}
        state = self._optimizer.state_dict()
        for index, values in state["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    saved[f"{key}/{self._names[index]}"] = value
                elif isinstance(value, (bool, int, float)):
                    saved[f"{_NUMBER}/{key}/{self._names[index]}"] = _tensor(value)
                elif value is not None:
                    raise ConfigError(
                        f"the optimizer keeps {key}, a {type(value).__name__}, for each weight; only tensors and "
                        "numbers can be saved"
                    )
        for number, group in enumerate(state["param_groups"]):
            for key, value in group.items():
                if isinstance(value, (bool, int, float)):
                    saved[f"{_GROUP}/{number}/{key}"] = _tensor(value)
        return saved

    def load_state(self, saved: Mapping[str, Tensor]) -> None:
        """Restore `state` exactly. Raises CheckpointError if it belongs to another model or optimizer."""
        state = self._optimizer.state_dict()
        numbers = {name: number for number, name in enumerate(self._names)}
        states: dict[int, dict[str, Any]] = {}
        for label, tensor in saved.items():
            kind, _, rest = label.partition("/")
            if kind == _GROUP:
                number, key = rest.split("/", 1)
                if int(number) >= len(state["param_groups"]) or key not in state["param_groups"][int(number)]:
                    raise CheckpointError("the optimizer of the checkpoint has other groups; use another checkpoint")
                state["param_groups"][int(number)][key] = tensor.item()
                continue
            key, name = (rest if kind == _NUMBER else label).split("/", 1)
            if name not in numbers:
                raise CheckpointError(f"the optimizer state names an unknown weight, {name}; use another checkpoint")
            states.setdefault(numbers[name], {})[key] = tensor.item() if kind == _NUMBER else tensor.clone()
        state["state"] = states
        self._optimizer.load_state_dict(state)


def _tensor(value: float) -> Tensor:
    """A Python number as a tensor that holds all of it."""
    dtype = torch.bool if isinstance(value, bool) else torch.int64 if isinstance(value, int) else torch.float64
    return torch.tensor(value, dtype=dtype)
