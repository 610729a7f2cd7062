"""The diffusion transformer: convolutions near the pixels, a transformer over patches in the middle.

    x [B,C,H,W] -> stem: convolution blocks at full size, then at half size, ... -> patches -> tokens [B,T,D]
      -> transformer blocks: adaLN-single, RMSNorm, QK-norm, 2-D RoPE, SwiGLU, read-only text keys and values
      -> tokens -> patches, plus the stem's long skips -> convolution blocks back up to full size -> [B,C,H,W]

For large pictures the stem starts smaller (`stem_factor`): squares of pixels become channels, and a thin head at full
size (`head_width`) adds the input to what comes back, so that fine detail need not pass through the stem. Thin heads
over large patches: Yu et al. 2025, arXiv 2511.20645.

The convolutions give crisp edges without seams at patch borders for a tenth of the arithmetic; the transformer decides
the layout (Peebles and Xie 2023, arXiv 2212.09748; adaLN-single: Chen et al. 2023, arXiv 2310.00426; long skips:
Bao et al. 2023, arXiv 2209.12152). Any height and width that the patch divides.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tintype.config import NetConfig
from tintype.errors import ConfigError
from tintype.model.nets.conditioning import CaptionKV, Conditioning
from tintype.model.nets.layers import (
    Attention,
    ConvBlock,
    SwiGLU,
    feed_width,
    group_norm,
    is_cpu_eager,
    made_once,
    modulate,
    pixel_shuffle,
    rms_norm,
    rotary_embedding,
    sinusoids,
    zero_,
)

MIN_MUON_CHANNELS = 16  # fewer make a matrix too small to be worth Muon


class Block(nn.Module):
    """Transformer block on picture tokens [B, T, D]; gates start at zero, so that it starts as the identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.feed = SwiGLU(width)
        self.text = nn.Linear(width, 2 * width, bias=False)
        self.modulation = nn.Parameter(torch.zeros(6, width))

    def caption_kv(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Text tokens [B, L, D] -> keys, values [B, L, heads, D / heads]."""
        key, value = self.text(tokens).unflatten(-1, (2 * self.attention.heads, -1)).chunk(2, dim=2)
        return rms_norm(key), value

    def forward(
        self,
        x: Tensor,  # [B, T, D]
        modulation: Tensor,  # [B, 6, D] shared by all blocks
        text: tuple[Tensor, Tensor],
        rope: Tensor,  # of the rotary embedding
        mask: Tensor,  # [B, 1, 1, L + T] bool
        kept: Tensor | None = None,  # [B, hidden], dropout
    ) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.modulation).chunk(6, dim=1)
        x = torch.addcmul(x, gate1, self.attention(modulate(rms_norm(x), shift1, scale1), rope, text, mask))
        return torch.addcmul(x, gate2, self.feed(modulate(rms_norm(x), shift2, scale2), kept))


class Convolutions(nn.ModuleList):
    """Convolution blocks one after another, x [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, num: int, channels: int, cond_width: int) -> None:
        super().__init__(ConvBlock(channels, cond_width) for _ in range(num))

    def forward(self, x: Tensor, cond_emb: Tensor, kept: Sequence[Tensor | None]) -> Tensor:
        for block, part in zip(self, kept, strict=True):
            x = block(x, cond_emb, part)
        return x


class DiffusionTransformer(nn.Module):
    """Network from (input [B, C, H, W], c_noise [B], caption) to output [B, C, H, W]; a fresh one returns 0.

    Raises ConfigError if the patch does not divide H and W.
    """

    # Attributes name the weights in model files, so they stay. In the field's words: level is the noise embedding,
    # summary the projection of the pooled text, read and write are conv_in and conv_out, detail and last those of the
    # head; shrink and grow downsample and upsample, tokens and patches patchify and unpatchify; feed, in a block, is
    # the feed-forward layer.
    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        channels = [config.stem_width * 2**level for level in range(config.stem_levels)]
        self.stride = stride = config.patch // config.patch_multiple
        area = config.stem_factor**2
        head = config.head_width

        self.level = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.summary = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 6 * width)

        self.read = nn.Conv2d(config.channels * area, channels[0], 3, padding=1)
        self.down = nn.ModuleList(Convolutions(config.stem_depth, size, width) for size in channels)
        self.shrink = nn.ModuleList(nn.Conv2d(size, larger, 2, stride=2) for size, larger in pairwise(channels))
        self.tokens = nn.Conv2d(channels[-1], width, stride, stride=stride)
        self.position = nn.Linear(64, width, bias=False)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.patches = nn.Linear(width, channels[-1] * stride**2)
        self.up = nn.ModuleList(Convolutions(config.stem_depth, size, width) for size in channels)
        self.grow = nn.ModuleList(nn.Conv2d(larger, size * 4, 1) for size, larger in pairwise(channels))
        kernel = config.write_kernel
        self.write = nn.Conv2d(channels[0], (head or config.channels) * area, kernel, padding=kernel // 2)
        self.groups = max(1, channels[0] // 16)
        # Features that dropout acts on: of the convolutions down and up, and of the feed-forward layers.
        self._dropped = [size for size in (*channels, *channels) for _ in range(config.stem_depth)]
        self._dropped += [feed_width(width)] * config.depth
        if head:
            self.detail = nn.Conv2d(config.channels, head, 3, padding=1)
            self.last = nn.Conv2d(head, config.channels, 3, padding=1)
        zero_(self.modulation)
        zero_(self.last if head else self.write)

    def caption_kv(self, cond: Conditioning) -> CaptionKV:
        """Every block's keys and values of a caption [B, L, D]."""
        pairs = [cast(Block, block).caption_kv(cond.tokens) for block in self.blocks]
        weights = cond.mask[:, :, None].to(cond.tokens.dtype)
        pooled_text = (cond.tokens * weights).sum(1) / weights.sum(1).clamp(min=1)
        return CaptionKV(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs), cond.mask, pooled_text)

    def muon_matrices(self) -> dict[str, int]:
        """Attention, and convolutions between features: see `network.MuonMatrices`."""
        stacked = {"attention.qkv.weight": 3, "attention.out.weight": 1, "text.weight": 2}
        matrices = {}
        for name, weight in self.named_parameters():
            if weight.ndim == 4 and min(weight.shape[:2]) >= MIN_MUON_CHANNELS:
                matrices[name] = 1
            for end, num in stacked.items():
                if weight.ndim == 2 and name.endswith(end):
                    matrices[name] = num
        return matrices

    def shard_units(self) -> list[list[nn.Module]]:
        """The text projections of all blocks, which `caption_kv` runs first; then block by block."""
        return [[cast(Block, block).text for block in self.blocks], *([block] for block in self.blocks)]

    def num_dropped(self) -> int:
        """Features of the convolutions and of the feed-forward layers: see `network.Droppable`."""
        return sum(self._dropped)

    def _kept(self, kept: Tensor | None) -> tuple[list[Sequence[Tensor | None]], Sequence[Tensor | None]]:
        """The factors of dropout: for each `Convolutions` on the way down, then up; and for the transformer blocks."""
        parts: Sequence[Tensor | None] = [None] * len(self._dropped)
        if kept is not None:
            parts = torch.split(kept, self._dropped, dim=1)
        num, depth = 2 * self.config.stem_levels, self.config.stem_depth
        return [parts[index * depth : (index + 1) * depth] for index in range(num)], parts[num * depth :]

    def positions(self, height: int, width: int, device: torch.device) -> Positions:
        """What the network knows of the places of a picture's tokens: the same for all pictures of a size."""
        patch, config = self.config.patch, self.config
        return picture_positions(height // patch, width // patch, config.width // config.heads, device)

    def forward(self, x: Tensor, c_noise: Tensor, text: CaptionKV, positions: Positions | None = None) -> Tensor:
        """positions: those of the size of x, for a compiled network, which would make them again at every call."""
        patch = self.config.patch
        if x.shape[-2] % patch or x.shape[-1] % patch:
            raise ConfigError(f"a size of {x.shape[-1]}x{x.shape[-2]} is not a multiple of the patch, {patch}")
        cond_emb = F.silu(self.level(sinusoids(c_noise, 64, 0.5, 30.0)) + self.summary(text.pooled_text))

        picture, factor = x, self.config.stem_factor
        x = x if factor == 1 else F.pixel_unshuffle(x, factor)
        if not is_cpu_eager(x):  # few channels are reordered sooner than many
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.read(x).contiguous(memory_format=torch.channels_last)
        kept, kept_tokens = self._kept(text.kept)
        skips = []
        for index, convolutions in enumerate(self.down):
            if index:
                x = self.shrink[index - 1](x)
            x = convolutions(x, cond_emb, kept[index])
            skips.append(x)

        positions = positions or self.positions(picture.shape[-2], picture.shape[-1], picture.device)
        x = self._transform(self.tokens(x), cond_emb, text, positions, kept_tokens)

        for index in reversed(range(len(skips))):
            if index < len(skips) - 1:
                x = pixel_shuffle(self.grow[index](x), 2)
            x = self.up[index](x + skips[index], cond_emb, kept[len(skips) + index])

        out: Tensor = pixel_shuffle(self.write(F.silu(group_norm(x, self.groups))), factor)
        if self.config.head_width:
            out = out + self.detail(picture.contiguous(memory_format=torch.channels_last))
            out = self.last(F.silu(group_norm(out, 1)))
        return out

    def _transform(
        self, x: Tensor, cond_emb: Tensor, text: CaptionKV, positions: Positions, kept: Sequence[Tensor | None]
    ) -> Tensor:
        """Tokens on their grid [B, D, h, w] through the blocks, back to the last level of the stem."""
        rows, columns = x.shape[-2:]
        mask = F.pad(text.mask, (0, rows * columns), value=True)[:, None, None]
        modulation = self.modulation(cond_emb).unflatten(1, (6, -1))

        tokens = x.flatten(2).transpose(1, 2) + self.position(positions.grid)
        for block, key, value, part in zip(self.blocks, text.keys, text.values, kept, strict=True):
            tokens = block(tokens, modulation, (key, value), positions.rope, mask, part)
        patches = self.patches(rms_norm(tokens)).transpose(1, 2).unflatten(2, (rows, columns))
        return pixel_shuffle(patches, self.stride)


class Positions(NamedTuple):
    """The places of the tokens of a picture."""

    rope: Tensor  # of the rotary embedding [T, 1, D / heads / 2, 2]
    grid: Tensor  # from 0 to 1 along each side, as sinusoids [T, 64]


@made_once
def picture_positions(rows: int, columns: int, head_width: int, device: torch.device) -> Positions:
    """Positions of rows * columns tokens."""
    places = torch.cartesian_prod(torch.arange(rows, device=device), torch.arange(columns, device=device))
    return Positions(rotary_embedding(places, head_width), _grid(rows, columns, device))


def _grid(rows: int, columns: int, device: torch.device) -> Tensor:
    """Position of each token, from 0 to 1 along each side of the picture, as sinusoids [rows * columns, 64]."""
    row = (torch.arange(rows, device=device) + 0.5) / rows
    column = (torch.arange(columns, device=device) + 0.5) / columns
    row, column = sinusoids(row, 32, 1.0, 50.0), sinusoids(column, 32, 1.0, 50.0)
    grid = torch.cat([row[:, None].expand(-1, columns, -1), column[None].expand(rows, -1, -1)], dim=-1)
    return grid.flatten(0, 1)
