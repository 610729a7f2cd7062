"""Muon: momentum whose every update is made orthogonal, so that no direction of a weight matrix is left behind.

Keller Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the size of an update, which makes
one learning rate serve Muon and AdamW alike: Liu et al. 2025, arXiv 2502.16982, section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from tintype.training.parallel.world import World

# Of the quintic a s + b s^3 + c s^5 that carries every singular value s in (0, 1] to about 1 in a few rounds (Jordan).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
ADAM_RMS = 0.2  # root mean square of a typical AdamW update, in units of the learning rate


def orthogonalized(matrices: Tensor, *, num_stacked: int = 1, bf16: bool = False) -> Tensor:
    """Matrices [..., m, n] with all their singular values brought near 1 (0.7 to 1.2), by Newton-Schulz rounds.

    num_stacked: of how many matrices of m / num_stacked rows each is a stack; they are made orthogonal each on its own.
    bf16: compute in bfloat16, whose rounding the rounds even out (Jordan); the result is left in it, to be sent.
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
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    found = x.reshape(shape)
    return found.mT if tall else found


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay; a convolution [C, ...] counts as a matrix [C, rest].

    Weights of the same shape are stepped together. State: `momentum_buffer`, one tensor a weight.

    Args:
        groups: weights, or groups of them with `num_stacked`: how many matrices are stacked in each weight, as queries,
            keys and values are in one layer.
        world: the processes that train together; each computes the updates of its share of the matrices.
        bf16: make updates orthogonal in bfloat16; weights and momentum stay as they are.
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
        number = 0  # of a call, by which processes take turns
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    alike.setdefault(weight.shape, []).append(weight)
            for weights in alike.values():
                self._step_alike(weights, number, group)
                number += 1

    def _step_alike(self, weights: list[Tensor], number: int, group: dict[str, Any]) -> None:
        lr, momentum, num_stacked = group["lr"], group["momentum"], group["num_stacked"]
        directions = []
        for weight in weights:
            grad = cast(Tensor, weight.grad)
            state = self.state[weight]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            buffer = state["momentum_buffer"].lerp_(grad, 1 - momentum)
            directions.append(torch.lerp(grad, buffer, momentum).flatten(1))
        each = partial(orthogonalized, num_stacked=num_stacked, bf16=self._bf16)
        updates = self._world.distribute_matrices(each, torch.stack(directions), number)
        size = ADAM_RMS * max(updates.shape[-2] // num_stacked, updates.shape[-1]) ** 0.5
        for weight, update in zip(weights, updates, strict=True):
            weight.mul_(1 - lr * group["weight_decay"]).sub_(update.view_as(weight), alpha=lr * size)
