"""Building blocks of the diffusion transformer."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx


class _RMSNorm(torch.autograd.Function):
    # As separate operations this norm took a tenth of a training step on a CPU; this version reads x only twice.

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        root = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = root.square_().div_(x.shape[-1]).add_(1e-6).rsqrt_()
        normed: Tensor = x * inverse
        ctx.save_for_backward(normed, inverse)
        return normed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        normed, inverse = ctx.saved_tensors
        along = (grad * normed).mean(dim=-1, keepdim=True)
        return torch.addcmul(grad, normed, along, value=-1).mul_(inverse)


def rms_norm(x: Tensor) -> Tensor:
    """Root-mean-square norm of the last dimension, without weights (Zhang and Sennrich 2019, arXiv 1910.07467)."""
    if x.device.type == "cpu":
        return cast(Tensor, _RMSNorm.apply(x))  # type: ignore[no-untyped-call]
    return F.rms_norm(x, (x.shape[-1],), eps=1e-6)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x [B, T, D] * (1 + scale [B, 1, D]) + shift [B, 1, D]."""
    return torch.addcmul(shift, x, 1 + scale)


def feed_width(width: int) -> int:
    """The hidden features of a feed-forward layer for `width`."""
    return math.ceil(width * 5 / 2 / 32) * 32


class SwiGLU(nn.Module):
    """Gated feed-forward layer [B, T, D] -> [B, T, D] (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = feed_width(width)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.value = nn.Linear(width, hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        hidden = F.silu(self.gate(x)) * self.value(x)
        if kept is not None:  # [B, hidden], dropout
            hidden = hidden * kept[:, None]
        out: Tensor = self.out(hidden)
        return out


def rotary_embedding(positions: Tensor, head_width: int) -> Tensor:
    """Rotary embedding: unit complex numbers [T, 1, head_width / 2].

    positions [T, n]: each coordinate rotates an equal share of the pairs of a head (RoPE: Su et al. 2021, arXiv
    2104.09864; axial, for pictures: Heo et al. 2024, arXiv 2403.13298).
    """
    num = head_width // 2 // positions.shape[1]
    frequencies = 100.0 ** -(torch.arange(num, dtype=torch.float32, device=positions.device) / num)
    angles = (positions[:, :, None].float() * frequencies).flatten(1)[:, None]
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate neighboring pairs in the last dimension of x [B, T, heads, D / heads] by `rope`; computes in float32."""
    pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rope).flatten(-2).to(x.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention: queries [B, heads, T, D / heads], keys and values [B, heads, L + T, D / heads]."""
    if not torch.is_autocast_enabled("cpu"):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    # The fused backward pass takes five times as long in bfloat16 on a CPU.
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    mixed: Tensor = scores.softmax(-1) @ value
    return mixed


class Attention(nn.Module):
    """Multi-head attention with normalized queries and keys (Henry et al. 2020, arXiv 2010.04245).

    Picture tokens attend to each other and to the keys and values of the text, which the picture does not change.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.scale = nn.Parameter(torch.ones(heads, 1))  # of the queries; it commutes with the rotation

    def forward(
        self,
        x: Tensor,  # [B, T, D]
        rope: Tensor | None = None,  # [T, 1, D / heads / 2], from rotary_embedding
        text: tuple[Tensor, Tensor] | None = None,  # keys and values [B, L, heads, D / heads]
        mask: Tensor | None = None,  # [B, 1, 1, L + T] bool, True = attend; text keys come first
    ) -> Tensor:
        query, key, value = self.project(x, rope)
        if text is not None:
            key, value = torch.cat([text[0], key], dim=1), torch.cat([text[1], value], dim=1)
        return self.mix(query, key, value, mask)

    def project(self, x: Tensor, rope: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x [B, T, D], normalized and rotated: [B, T, heads, D / heads] each."""
        qkv = self.qkv(x).unflatten(-1, (3 * self.heads, -1))  # [B, T, 3 heads, D / heads]
        query_key, value = qkv.split((2 * self.heads, self.heads), dim=2)
        query_key = rms_norm(query_key)
        if rope is not None:
            query_key = rotate(query_key, rope)
        query, key = query_key.chunk(2, dim=2)
        return query, key, value

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """What queries [B, T, heads, D / heads] read from keys and values [B, S, heads, D / heads]: [B, T, D].

        mask: bool, True = attend, broadcast to [B, heads, T, S].
        """
        query, key, value = ((query * self.scale).transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        mixed = attend(query, key, value, mask)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


def zero_(layer: nn.Linear | nn.Conv2d) -> None:
    """Set all weights of a layer to zero, so that its output starts at zero."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)


class ConvBlock(nn.Module):
    """Residual pair of 3x3 convolutions, modulated by noise level and pooled text (`cond_emb`).

    x [B, C, H, W], cond_emb [B, D] -> [B, C, H, W]
    """

    def __init__(self, channels: int, cond_width: int) -> None:
        super().__init__()
        self.groups = max(1, channels // 16)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.signal = nn.Linear(cond_width, 2 * channels)
        zero_(self.second)

    def forward(self, x: Tensor, cond_emb: Tensor, kept: Tensor | None = None) -> Tensor:
        hidden = F.group_norm(self.first(F.silu(F.group_norm(x, self.groups))), self.groups)
        scale, shift = self.signal(cond_emb)[:, :, None, None].chunk(2, dim=1)
        hidden = F.silu(hidden * (1 + scale) + shift)
        if kept is not None:  # [B, C], dropout
            hidden = hidden * kept[:, :, None, None]
        out: Tensor = x + self.second(hidden)
        return out


def sinusoids(values: Tensor, num: int, lowest: float, highest: float) -> Tensor:
    """values [...] -> sines and cosines [..., num] at num / 2 geometrically spaced angular frequencies."""
    frequencies = torch.logspace(math.log10(lowest), math.log10(highest), num // 2, device=values.device)
    angles = values[..., None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
