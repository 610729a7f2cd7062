"""An optimizer passed in: its schedule, and its state through a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tintype.config import TrainConfig
from tintype.errors import CheckpointError, ConfigError
from tintype.model import checkpoint
from tintype.training.core.custom_optimizer import CustomOptimizer, OptimizerFactory
from tintype.training.core.weights import snapshot

CONFIG = TrainConfig(lr=0.1)


class Counting(torch.optim.Optimizer):
    """Keeps Python numbers for each weight and for each group, as some optimizers do."""

    def __init__(self, weights: list[nn.Parameter], lr: float) -> None:
        super().__init__(weights, {"lr": lr, "total": 0.0, "warm": True})

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["total"] += group["lr"] / 3
            group["warm"] = group["total"] < 0.1
            for weight in group["params"]:
                state = self.state[weight]
                state["calls"] = state.get("calls", 0) + 1
                state["share"] = state.get("share", 1.0) / 3
                weight.data.sub_(weight.grad, alpha=group["total"] * state["share"] * state["calls"])


FACTORIES: dict[str, OptimizerFactory] = {
    "sgd": lambda model, config: torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9, nesterov=True),
    "adagrad": lambda model, config: torch.optim.Adagrad(model.parameters(), lr=config.lr),
    "adamax": lambda model, config: torch.optim.Adamax(model.parameters(), lr=config.lr),
    "nadam": lambda model, config: torch.optim.NAdam(model.parameters(), lr=config.lr),
    "rmsprop": lambda model, config: torch.optim.RMSprop(model.parameters(), lr=config.lr, centered=True),
    "asgd": lambda model, config: torch.optim.ASGD(model.parameters(), lr=config.lr, t0=2),
    "counting": lambda model, config: Counting(list(model.parameters()), config.lr),
}


def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 3), nn.SiLU(), nn.Linear(3, 2))


def steps(net: nn.Module, optimizer: CustomOptimizer, start: int, end: int) -> None:
    for step in range(start, end):
        optimizer.set_lr(0.1 / (1 + step))
        optimizer.zero_grad()
        x = torch.sin(torch.arange(8.0) + step).reshape(2, 4)
        torch.autograd.backward(net(x).square().sum())
        optimizer.step()


@pytest.mark.parametrize("name", FACTORIES)
def test_going_on_from_a_checkpoint_is_exact(tmp_path: Path, name: str) -> None:
    straight = model()
    steps(straight, CustomOptimizer(straight, FACTORIES[name], CONFIG), 0, 6)
    first = model()
    optimizer = CustomOptimizer(first, FACTORIES[name], CONFIG)
    steps(first, optimizer, 0, 3)
    parts = {"weights": dict(first.named_parameters()), "optimizer": optimizer.state()}
    checkpoint.save_parts(tmp_path / "step", snapshot(parts), {})
    stored = checkpoint.load_parts(tmp_path / "step", ["weights", "optimizer"])
    second = model()
    resumed = CustomOptimizer(second, FACTORIES[name], CONFIG)
    second.load_state_dict(stored["weights"])
    resumed.load_state(stored["optimizer"])
    steps(second, resumed, 3, 6)
    for one, two in zip(straight.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)


def test_each_group_keeps_its_rate_relative_to_the_schedule() -> None:
    net = model()
    groups = [{"params": [net[0].weight]}, {"params": [net[2].weight], "lr": 0.3}]  # type: ignore[index]
    optimizers: list[torch.optim.Optimizer] = []

    def factory(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
        optimizers.append(torch.optim.SGD(groups, lr=config.lr))
        return optimizers[0]

    optimizer = CustomOptimizer(net, factory, CONFIG)
    optimizer.set_lr(0.01)
    assert [group["lr"] for group in optimizers[0].param_groups] == pytest.approx([0.01, 0.03])
    assert CustomOptimizer(net, FACTORIES["sgd"], replace(CONFIG, lr=0.2)).state()["group/0/lr"].item() == 0.2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: {**state, "momentum_buffer/3.weight": torch.zeros(2)}, "unknown weight, 3.weight"),
        (lambda state: {**state, "group/1/lr": torch.zeros(())}, "other groups"),
        (lambda state: {**state, "group/0/beta": torch.zeros(())}, "other groups"),
    ],
)
def test_a_state_of_something_else_is_refused(
    spoil: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    net = model()
    optimizer = CustomOptimizer(net, FACTORIES["sgd"], CONFIG)
    steps(net, optimizer, 0, 1)
    with pytest.raises(CheckpointError, match=message):
        optimizer.load_state(spoil(optimizer.state()))


def test_a_state_that_cannot_be_saved_is_named() -> None:
    net = model()
    optimizer = CustomOptimizer(net, lambda model, config: torch.optim.LBFGS(model.parameters(), lr=config.lr), CONFIG)
    optimizer._optimizer.state[net[0].weight]["old_dirs"] = [1]  # type: ignore[index]
    with pytest.raises(ConfigError, match="keeps old_dirs, a list, for each weight"):
        optimizer.state()
