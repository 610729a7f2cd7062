"""The bits of tokens: -log2 of the probability that a network gives each, without keeping all its logits in float32."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

ROWS = 128  # whose logits are computed at once, so that they stay in the processor's cache


class _Bits(torch.autograd.Function):
    # As matrix product, float32 logits and cross entropy, this took a third of a training step on a CPU, most of it
    # waiting for memory.

    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, matrix: Tensor, bias: Tensor, tokens: Tensor) -> Tensor:
        slope = hidden.new_empty(len(hidden), len(matrix))  # probabilities, minus 1 where the token is
        nats = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        rows = torch.arange(len(hidden), device=hidden.device)
        for start in range(0, len(hidden), ROWS):
            part = slice(start, start + ROWS)
            logits = (hidden[part] @ matrix.T).float().add_(bias)
            logits.sub_(logits.amax(1, keepdim=True))
            own = logits.gather(1, tokens[part, None])
            odds = logits.exp_()
            total = odds.sum(1, keepdim=True)
            nats[part] = (total.log() - own)[:, 0]
            slope[part] = odds.div_(total)
        slope[rows, tokens] -= 1
        ctx.save_for_backward(hidden, matrix, slope)
        return nats / math.log(2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        hidden, matrix, slope = ctx.saved_tensors
        slope = slope * (grad / math.log(2))[:, None].to(slope.dtype)
        of_matrix = (hidden.T @ slope).T  # slope.T @ hidden would first copy slope, which is large
        return slope @ matrix, of_matrix, slope.sum(0, dtype=torch.float32), None


def bits_of(hidden: Tensor, matrix: Tensor, bias: Tensor, tokens: Tensor) -> Tensor:
    """-log2 of softmax(hidden @ matrix.T + bias) at `tokens`: float32 [N].

    hidden [N, D] and matrix [V, D] are of one type, bias [V] is float32, tokens int64 [N].
    """
    return cast(Tensor, _Bits.apply(hidden, matrix, bias, tokens))  # type: ignore[no-untyped-call]
