"""Building blocks of the diffusion transformer."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

P = ParamSpec("P")
T = TypeVar("T")


def made_once(make: Callable[P, T]) -> Callable[P, T]:
    """A function of sizes and a device that makes tensors, each only once; a compiler sees how they are made."""
    remembered = lru_cache(maxsize=64)(make)

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_compiling():
            return make(*args, **kwargs)
        with torch.inference_mode(False):  # or they could not be used in training
            return remembered(*args, **kwargs)  # type: ignore[arg-type]

    return made


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


def is_cpu_eager(x: Tensor) -> bool:
    """Whether x is computed on a CPU and one operation at a time: for that, not for a compiler, some functions here
    have forms of their own. A trained network depends on them to the last bit."""
    return x.device.type == "cpu" and not torch.compiler.is_dynamo_compiling()


def rms_norm(x: Tensor) -> Tensor:
    """Root-mean-square norm of the last dimension, without weights (Zhang and Sennrich 2019, arXiv 1910.07467)."""
    if is_cpu_eager(x):
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
    """Rotary embedding: cosines and sines [T, 1, head_width / 2, 2].

    positions [T, n]: each coordinate rotates an equal share of the pairs of a head (RoPE: Su et al. 2021, arXiv
    2104.09864; axial, for pictures: Heo et al. 2024, arXiv 2403.13298).
    """
    num = head_width // 2 // positions.shape[1]
    frequencies = 100.0 ** -(torch.arange(num, dtype=torch.float32, device=positions.device) / num)
    angles = (positions[:, :, None].float() * frequencies).flatten(1)[:, None]
    return torch.view_as_real(torch.polar(torch.ones_like(angles), angles))


@made_once
def line_rope(num: int, head_width: int, device: torch.device) -> Tensor:
    """The rotary embedding of `num` tokens one after another."""
    return rotary_embedding(torch.arange(num, device=device)[:, None], head_width)


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate neighboring pairs in the last dimension of x [B, T, heads, D / heads] by `rope`; computes in float32."""
    pairs = x.float().view(*x.shape[:-1], -1, 2)
    if is_cpu_eager(x):
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rope))
    else:  # compilers fuse no complex numbers
        (a, b), (cos, sin) = pairs.unbind(-1), rope.unbind(-1)
        turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)


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
        rope: Tensor | None = None,  # [T, 1, D / heads / 2, 2], from rotary_embedding
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


def group_norm(x: Tensor, groups: int) -> Tensor:
    """Group norm of x [B, C, H, W] without weights (Wu and He 2018, arXiv 1803.08494).

    A compiler gets its formula, which has no order of channels and pixels: the function would put channels first.
    """
    if not torch.compiler.is_dynamo_compiling():
        return F.group_norm(x, groups)
    parts = cast(Tensor, x.float().unflatten(1, (groups, -1)))  # type: ignore[no-untyped-call]
    variance, mean = torch.var_mean(parts, dim=(2, 3, 4), correction=0, keepdim=True)
    return ((parts - mean) * torch.rsqrt(variance + 1e-5)).flatten(1, 2)


def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """Channels [B, C * factor^2, H, W] to pixels [B, C, H * factor, W * factor], channels last if they were so before.

    As `F.pixel_shuffle`, which keeps channels last on a CPU alone.
    """
    if factor == 1:
        return x
    if is_cpu_eager(x) or not x.is_contiguous(memory_format=torch.channels_last):
        return F.pixel_shuffle(x, factor)
    squares = cast(Tensor, x.unflatten(1, (-1, factor, factor)))  # type: ignore[no-untyped-call]
    squares = squares.permute(0, 4, 2, 5, 3, 1)  # [B, H, factor, W, factor, C]
    return squares.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


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
        hidden = group_norm(self.first(F.silu(group_norm(x, self.groups))), self.groups)
        scale, shift = self.signal(cond_emb)[:, :, None, None].chunk(2, dim=1)
        hidden = F.silu(hidden * (1 + scale) + shift)
        if kept is not None:  # [B, C], dropout
            hidden = hidden * kept[:, :, None, None]
        out: Tensor = x + self.second(hidden)
        return out


def sinusoids(values: Tensor, num: int, lowest: float, highest: float) -> Tensor:
    """values [...] -> sines and cosines [..., num] at num / 2 geometrically spaced angular frequencies."""
    angles = values[..., None].float() * _frequencies(num // 2, lowest, highest, values.device)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


@made_once
def _frequencies(num: int, lowest: float, highest: float, device: torch.device) -> Tensor:
    return torch.logspace(math.log10(lowest), math.log10(highest), num, device=device)
