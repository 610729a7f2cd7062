"""The network: a causal transformer that gives the probability of each next token of a picture.

    tokens [B, T], caption -> at each place the logits of its token, from the tokens before it alone [B, T, V]

The width, depth, attention and text conditioning are those of the diffusion transformer of `model/nets/dit.py`, so that
the two differ in what they predict. A place knows where it lies, not which token comes there. Pictures written one
piece after another: van den Oord et al. 2016, arXiv 1601.06759; with a codebook and a transformer: Esser et al. 2021,
arXiv 2012.09841.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tintype.model.nets.conditioning import Conditioning
from tintype.model.nets.layers import Attention, SwiGLU, modulate, rms_norm, rotary_embedding, sinusoids, zero_
from tintype.tokens.config import TokenNetConfig


class Cache:
    """Keys and values of a caption and of the tokens that a block has read, [B, L + S, heads, D / heads]."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        self.key, self.value = key, value

    def append(self, key: Tensor, value: Tensor) -> None:
        """Add the keys and values of further tokens [B, S, heads, D / heads]."""
        self.key, self.value = torch.cat([self.key, key], dim=1), torch.cat([self.value, value], dim=1)


class Block(nn.Module):
    """Transformer block on tokens [B, S, D], which reads a caption and the tokens before; it starts as the identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.feed = SwiGLU(width)
        self.text = nn.Linear(width, 2 * width, bias=False)
        self.modulation = nn.Parameter(torch.zeros(6, width))

    def cache(self, cond: Conditioning) -> Cache:
        """The keys and values of captions [B, L, D]."""
        key, value = self.text(cond.tokens).unflatten(-1, (2 * self.attention.heads, -1)).chunk(2, dim=2)
        return Cache(rms_norm(key), value)

    def forward(
        self,
        x: Tensor,  # [B, S, D]
        modulation: Tensor,  # [B, 6, D] shared by all blocks
        cache: Cache,  # gets the keys and values of x
        rope: Tensor,  # of the places of x
        mask: Tensor,  # [B, 1, S, L + T so far] bool
    ) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.modulation).chunk(6, dim=1)
        query, key, value = self.attention.project(modulate(rms_norm(x), shift1, scale1), rope)
        cache.append(key, value)
        x = torch.addcmul(x, gate1, self.attention.mix(query, cache.key, cache.value, mask))
        return torch.addcmul(x, gate2, self.feed(modulate(rms_norm(x), shift2, scale2)))


class Reading:
    """What the network has read: a caption, and the first `length` tokens of each picture [B]."""

    def __init__(
        self, caches: list[Cache], mask: Tensor, modulation: Tensor, matrix: Tensor, positions: Tensor, rope: Tensor
    ) -> None:
        self.caches = caches
        self.mask = mask  # [B, L] bool, of the caption
        self.modulation = modulation  # [B, 6, D]
        # Computed once for all places:
        self.matrix = matrix  # [V, D], the embedding of each code
        self.positions = positions  # [T, D]
        self.rope = rope  # [T, 1, D / heads / 2]
        self.length = 0


class TokenTransformer(nn.Module):
    """Network from tokens and captions to logits. A token is embedded as the patch that it stands for, plus a vector
    of its own; the same matrix reads the logits."""

    def __init__(self, config: TokenNetConfig, codes: Tensor) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("codes", codes.float() / 127.5 - 1, persistent=False)  # [V, 3 * patch * patch]
        self.look = nn.Linear(codes.shape[1], width, bias=False)
        self.own = nn.Parameter(0.02 * torch.randn(len(codes), width))
        self.first = nn.Parameter(torch.randn(width))  # stands before the first token
        self.position = nn.Linear(64, width, bias=False)
        self.summary = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.read = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(len(codes)))
        zero_(self.modulation)
        zero_(self.read)
        places = torch.cartesian_prod(torch.arange(config.side), torch.arange(config.side))
        self.register_buffer("places", places, persistent=False)  # [T, 2], row and column

    def muon_matrices(self) -> dict[str, int]:
        """Attention: see `model.network.MuonMatrices`."""
        stacked = {"attention.qkv.weight": 3, "attention.out.weight": 1, "text.weight": 2}
        names = [name for name, _ in self.named_parameters()]
        return {name: num for name in names for end, num in stacked.items() if name.endswith(end)}

    def start(self, cond: Conditioning) -> Reading:
        """Read captions [B, L, D]; no token is read yet."""
        weights = cond.mask[:, :, None].to(cond.tokens.dtype)
        pooled_text = (cond.tokens * weights).sum(1) / weights.sum(1).clamp(min=1)
        modulation = self.modulation(F.silu(self.summary(pooled_text))).unflatten(1, (6, -1))
        caches = [cast(Block, block).cache(cond) for block in self.blocks]
        places = cast(Tensor, self.places)
        rope = rotary_embedding(places, self.config.width // self.config.heads)
        matrix, positions = self.own + self.look(self.codes), self.position(self._grid(places))
        return Reading(caches, cond.mask, modulation, matrix, positions, rope)

    def forward(self, tokens: Tensor, cond: Conditioning) -> Tensor:
        """The logits of every token of pictures, each from those before it: int64 [B, T] -> [B, T, V]."""
        return self.extend(self.start(cond), tokens[:, :-1])

    def extend(self, reading: Reading, tokens: Tensor) -> Tensor:
        """Read further tokens int64 [B, S]: the logits of each place that is known now, [B, S, V].

        For a reading without tokens the first place counts too: [B, S + 1, V].
        """
        return F.linear(self.hidden(reading, tokens), reading.matrix, self.bias)

    def hidden(self, reading: Reading, tokens: Tensor) -> Tensor:
        """`extend` before the last layer, which is `reading.matrix` and `bias`: [B, S, D]."""
        embedded = reading.matrix[tokens]
        if reading.length == 0:
            embedded = torch.cat([self.first.to(embedded.dtype).expand(len(tokens), 1, -1), embedded], dim=1)
        start, num = reading.length, embedded.shape[1]
        reading.length += num
        x = embedded + reading.positions[start : start + num]
        rope = reading.rope[start : start + num]
        mask = self._mask(reading, start, num)
        for block, cache in zip(self.blocks, reading.caches, strict=True):
            x = block(x, reading.modulation, cache, rope, mask)
        out: Tensor = self.read(rms_norm(x))
        return out

    def _grid(self, places: Tensor) -> Tensor:
        """Places [S, 2] as sinusoids of their share of each side, [S, 64]."""
        share = (places + 0.5) / self.config.side
        return torch.cat([sinusoids(share[:, 0], 32, 1.0, 50.0), sinusoids(share[:, 1], 32, 1.0, 50.0)], dim=-1)

    def _mask(self, reading: Reading, start: int, num: int) -> Tensor:
        """Which of the caption and of the places up to each of `num` places from `start` on it reads: bool."""
        places = torch.arange(start + num, device=reading.mask.device)
        causal = places[None] <= places[start:, None]
        text = reading.mask[:, None, None, :].expand(-1, -1, num, -1)
        return torch.cat([text, causal.expand(len(text), 1, -1, -1)], dim=-1)
