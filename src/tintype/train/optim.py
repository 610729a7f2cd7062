"""AdamW and its learning rate: a pure function of how many images were seen."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tintype.config import TrainConfig
from tintype.errors import CheckpointError

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) over the trainable weights; decay acts on matrices, not on scales and biases."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in trained if weight.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in trained if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        fused=all(weight.device.type in ("cpu", "cuda", "mps") for weight in trained),
    )


def lr_at(images_seen: float, config: TrainConfig) -> float:
    """Learning rate of the step that starts after `images_seen`: warm-up, constant, then linear decay to zero.

    Warm-up counts the batch that the step is about to show, so that the very first step already moves.
    """
    start = (images_seen + config.batch_size) / max(config.warmup_images, 1)
    decay_images = config.decay_fraction * config.images
    end = (config.images - images_seen) / decay_images if decay_images > 0 else 1.0
    return config.lr * max(0.0, min(1.0, start, end))


def optimizer_state(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Flat tensors `exp_avg/NAME` and so on, by the names of the weights."""
    state: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        for moment, value in optimizer.state.get(weight, {}).items():
            state[f"{moment}/{name}"] = value
    return state


def load_optimizer_state(optimizer: torch.optim.Optimizer, model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Restore `optimizer_state` exactly. Raises CheckpointError if it belongs to another model."""
    left = set(state)
    for name, weight in model.named_parameters():
        names = {moment: f"{moment}/{name}" for moment in _MOMENTS if f"{moment}/{name}" in state}
        if not names:
            continue  # a weight that has had no gradient yet
        moments = {moment: state[key].clone() for moment, key in names.items()}
        if set(moments) != set(_MOMENTS) or moments["exp_avg"].shape != weight.shape:
            raise CheckpointError(f"the optimizer state of {name} does not fit this model; use another checkpoint")
        for moment in ("exp_avg", "exp_avg_sq"):
            moments[moment] = moments[moment].to(weight.device)
        moments["step"] = moments["step"].to(weight.device)
        optimizer.state[weight] = moments
        left.difference_update(names.values())
    if left:
        raise CheckpointError(f"the optimizer state names an unknown weight, {min(left)}; use another checkpoint")
