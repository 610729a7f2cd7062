"""Muon: momentum with orthogonalized updates, so that every direction of a weight matrix learns.

Keller Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the scale of updates, with which
Muon and AdamW share a learning rate: Liu et al. 2025, arXiv 2502.16982, section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from tintype.training.parallel.world import World, is_sharded

# Coefficients of a s + b s^3 + c s^5, which moves singular values s in (0, 1] to about 1 in a few iterations (Jordan).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
ADAM_RMS = 0.2  # root mean square of a typical AdamW update, in units of the learning rate


def orthogonalized(matrices: Tensor, *, num_stacked: int = 1, bf16: bool = False) -> Tensor:
    """Matrices [..., m, n] with all singular values moved close to 1 (0.7 to 1.2), by Newton-Schulz iterations.

    num_stacked: number of matrices, of m / num_stacked rows each, stacked in one; each of them is orthogonalized alone.
    bf16: compute in bfloat16, whose rounding errors the iterations correct (Jordan); the result stays in bfloat16.
    """
    if num_stacked > 1:
        *stack, rows, columns = matrices.shape
        each = orthogonalized(matrices.reshape(*stack, num_stacked, rows // num_stacked, columns), bf16=bf16)
        return each.reshape(*stack, rows, columns)
    a, b, c = _QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-20)
    shape = x.shape
    x = (x.flatten(0, -3) if x.ndim > 2 else x[None]).to(torch.bfloat16 if bf16 else x.dtype)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.reshape(shape)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay; a convolution [C, ...] counts as a matrix [C, rest].

    Weights of the same shape are stepped together. State: one `momentum_buffer` per weight.

    Args:
        groups: weights, or groups of them with `num_stacked`: how many matrices are stacked in each weight, as queries,
            keys and values are in one layer.
        world: the processes that train together; each computes the updates of its share of the matrices.
        bf16: orthogonalize in bfloat16; weights and momentum keep their precision.
    """

    def __init__(
        self,
        groups: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        *,
        world: World | None = None,
        bf16: bool = False,
    ) -> None:
        self._world = world or World()
        self._bf16 = bf16
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "num_stacked": 1})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        together: dict[object, list[_Stack]] = {}
        for index, group in enumerate(self.param_groups):
            for weight in group["params"]:
                if weight.grad is not None:
                    stack = _Stack(weight, self._momentum_buffer(weight), group)
                    together.setdefault(stack.key(index), []).append(stack)
        for call_index, stacks in enumerate(together.values()):
            self._step_together(stacks, call_index)

    def _momentum_buffer(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        return cast(Tensor, state["momentum_buffer"])

    def _step_together(self, stacks: list[_Stack], call_index: int) -> None:
        """Step weights whose matrices have one shape, in a few calls for all of them."""
        group = stacks[0].group
        lr, momentum = group["lr"], group["momentum"]
        weights = [stack.weight for stack in stacks]
        grads = [cast(Tensor, stack.weight.grad) for stack in stacks]
        buffers = [stack.buffer for stack in stacks]
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        directions = torch._foreach_lerp(grads, buffers, momentum)
        parts = {stack.group["num_stacked"] for stack in stacks}
        if len(parts) == 1:
            num_stacked = parts.pop()
            matrices = torch.stack([direction.flatten(1) for direction in directions])
        else:  # all of them one by one
            num_stacked = 1
            matrices = torch.cat([stack.split(direction) for stack, direction in zip(stacks, directions, strict=True)])
        function = partial(orthogonalized, num_stacked=num_stacked, bf16=self._bf16)
        updates = self._world.distribute_matrices(function, matrices, call_index)
        scale = ADAM_RMS * max(updates.shape[-2] // num_stacked, updates.shape[-1]) ** 0.5
        each = (
            updates.unbind() if len(updates) == len(stacks) else torch.split(updates, [stack.num for stack in stacks])
        )
        shaped = [update.reshape(weight.shape) for weight, update in zip(weights, each, strict=True)]
        torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        torch._foreach_sub_(weights, shaped, alpha=lr * scale)


class _Stack(NamedTuple):
    """A weight, which holds one or more matrices, with what Muon keeps of it."""

    weight: Tensor
    buffer: Tensor
    group: dict[str, Any]

    @property
    def num(self) -> int:
        """The number of matrices in the weight."""
        return int(self.group["num_stacked"])

    def split(self, direction: Tensor) -> Tensor:
        """A direction of the shape of the weight as matrices [num, m, n]."""
        return direction.reshape(self.num, len(direction) // self.num, -1)

    def key(self, index: int) -> object:
        """Equal for weights to step together; index: of the group.

        On a GPU these are all whose matrices have one shape. On a CPU many small calls are faster: they find what they
        need in its cache. Shards cannot be divided into matrices.
        """
        weight = self.weight
        if weight.device.type == "cpu" or is_sharded(weight):
            return index, weight.shape
        return self.group["lr"], self.group["weight_decay"], len(weight) // self.num, weight[0].numel()
