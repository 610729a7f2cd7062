"""The optimizers, AdamW and Muon, and their learning rate: a pure function of the number of images seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tintype.config import TrainConfig
from tintype.errors import CheckpointError, ConfigError
from tintype.model.network import muon_matrices
from tintype.training.core.custom_optimizer import CustomOptimizer, OptimizerFactory
from tintype.training.core.muon import Muon
from tintype.training.parallel.world import World, shard_like

_MOMENTS = ({"step", "exp_avg", "exp_avg_sq"}, {"momentum_buffer"})  # of AdamW, of Muon
_STEP_BYTES = 4  # AdamW counts the steps of each weight, in float32
_MUON_LR_SCALE = 2.5  # learning rate of Muon, relative to that of AdamW


class Optimizers:
    """AdamW and Muon, each with its share of the weights."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = tuple(optimizers)

    def set_lr(self, lr: float) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * group["lr_scale"]

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def optimizer_for(self, weight: Tensor) -> torch.optim.Optimizer:
        """The optimizer that steps `weight`. Raises KeyError if it is not trained."""
        for optimizer in self.optimizers:
            if any(weight is other for group in optimizer.param_groups for other in group["params"]):
                return optimizer
        raise KeyError("a weight that is not trained")


def make_optimizers(
    model: nn.Module,
    config: TrainConfig,
    *,
    world: World | None = None,
    bf16: bool = False,
    factory: OptimizerFactory | None = None,
) -> Optimizers | CustomOptimizer:
    """Muon for the matrices that `model` names, AdamW for the rest (Loshchilov and Hutter 2019, arXiv 1711.05101).

    Decay acts on matrices, not on scales and biases. bf16: of Muon, where that is faster. factory: makes the one
    optimizer that takes the place of both. Raises ConfigError.
    """
    if factory is not None:
        if world is not None and world.is_sharded:
            raise ConfigError("an optimizer passed in cannot step a model that is sharded; leave out shard")
        return CustomOptimizer(model, factory, config)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    matrices = muon_matrices(model)
    muon: dict[int, list[Tensor]] = {}  # by the number of matrices in each
    for name, weight in trained.items():
        if name in matrices:
            muon.setdefault(matrices[name], []).append(weight)
    others = [weight for name, weight in trained.items() if name not in matrices]
    groups = [
        {"params": [weight for weight in others if weight.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in others if weight.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = []
    if others:
        optimizers.append(
            torch.optim.AdamW(
                [{**group, "lr_scale": 1.0} for group in groups if group["params"]],
                lr=config.lr,
                betas=(config.beta1, config.beta2),
                fused=all(weight.device.type in ("cpu", "cuda", "mps") for weight in others),
            )
        )
    if muon:
        hidden = [{"params": weights, "num_stacked": num, "lr_scale": _MUON_LR_SCALE} for num, weights in muon.items()]
        optimizers.append(Muon(hidden, config.lr, config.weight_decay, world=world, bf16=bf16))
    return Optimizers(optimizers)


def lr_at(images_seen: float, config: TrainConfig) -> float:
    """Learning rate of the step that starts after `images_seen`: warm-up, constant, then linear decay to zero.

    Warm-up counts the batch of the step itself, so that even the first step changes the weights.
    """
    start = (images_seen + config.batch_size) / max(config.warmup_images, 1)
    decay_images = config.decay_fraction * config.schedule_images
    end = (config.schedule_images - images_seen) / decay_images if decay_images > 0 else 1.0
    return config.lr * max(0.0, min(1.0, start, end))


def optimizer_state(optimizers: Optimizers | CustomOptimizer, model: nn.Module) -> dict[str, Tensor]:
    """Flat tensors `exp_avg/NAME`, `momentum_buffer/NAME` and so on, for each weight NAME."""
    if isinstance(optimizers, CustomOptimizer):
        return optimizers.state()
    state: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        for optimizer in optimizers.optimizers:
            for moment, value in optimizer.state.get(weight, {}).items():
                state[f"{moment}/{name}"] = value
    return state


def state_bytes(optimizers: Optimizers | CustomOptimizer, model: nn.Module) -> int:
    """The size of `optimizer_state` once every weight was stepped, in bytes: known before the first step.

    That of an optimizer passed in is known after its first step, and 0 before it.
    """
    made = sum(value.nbytes for value in optimizer_state(optimizers, model).values())
    if made or isinstance(optimizers, CustomOptimizer):
        return made
    return sum(
        weight.nbytes if isinstance(optimizer, Muon) else 2 * weight.nbytes + _STEP_BYTES
        for optimizer in optimizers.optimizers
        for group in optimizer.param_groups
        for weight in group["params"]
    )


def load_optimizer_state(
    optimizers: Optimizers | CustomOptimizer, model: nn.Module, state: Mapping[str, Tensor]
) -> list[str]:
    """Restore `optimizer_state` exactly. Raises CheckpointError if it belongs to another model.

    Returns the names of weights that another optimizer stepped before: their moments restart from zero.
    """
    if isinstance(optimizers, CustomOptimizer):
        optimizers.load_state(state)
        return []
    matrices = muon_matrices(model)
    unknown = set(state)
    reset = []
    for name, weight in model.named_parameters():
        names = {moment for moments in _MOMENTS for moment in moments if f"{moment}/{name}" in state}
        if not names:
            continue  # a weight that has had no gradient yet
        moments = {moment: state[f"{moment}/{name}"] for moment in names}
        shaped = all(value.shape == weight.shape for moment, value in moments.items() if moment != "step")
        if names not in _MOMENTS or not shaped:
            raise CheckpointError(f"the optimizer state of {name} does not fit this model; use another checkpoint")
        if names == _MOMENTS[name in matrices]:
            optimizers.optimizer_for(weight).state[weight] = {
                moment: (value if moment == "step" else shard_like(value, weight)).clone().to(weight.device)
                for moment, value in moments.items()
            }
        else:
            reset.append(name)
        unknown.difference_update(f"{moment}/{name}" for moment in names)
    if unknown:
        raise CheckpointError(f"the optimizer state names an unknown weight, {min(unknown)}; use another checkpoint")
    return reset
