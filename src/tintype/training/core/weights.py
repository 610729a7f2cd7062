"""Weights copied into a denoiser, and snapshots of tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tintype.errors import CheckpointError
from tintype.training.parallel.world import local_shard, shard_like

Parts = Mapping[str, Mapping[str, Tensor]]


@torch.no_grad()
def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy `weights` into a model. Raises CheckpointError naming the first that does not fit."""
    parameters = dict(model.named_parameters())
    for name in sorted(set(parameters) ^ set(weights)):
        raise CheckpointError(
            f"the weights do not fit this model: {name} is {'missing' if name in parameters else 'unknown'}"
        )
    for name, weight in parameters.items():
        if weights[name].shape != weight.shape:
            raise CheckpointError(
                f"the weights do not fit this model: {name} has shape {tuple(weights[name].shape)}, "
                f"not {tuple(weight.shape)}"
            )
        if not weights[name].is_floating_point():
            raise CheckpointError(f"the weights do not fit this model: {name} is of type {weights[name].dtype}")
        local_shard(weight).copy_(local_shard(shard_like(weights[name], weight)))


def snapshot(parts: Parts) -> dict[str, dict[str, Tensor]]:
    """A copy of all tensors, on the CPU and contiguous."""
    return {
        part: {
            name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        for part, tensors in parts.items()
    }
