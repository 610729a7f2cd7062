"""Conditioning: captions as tokens, and as the keys and values that a network computes from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Captions as the network reads them; `Denoiser.encode` makes them.

    tokens  [B, L, D] float
    mask    [B, L] bool, True where there is a token, False where there is padding
    """

    tokens: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice | Tensor) -> Conditioning:
        return Conditioning(self.tokens[rows], self.mask[rows])

    def expand(self, num: int) -> Conditioning:
        """One caption for `num` pictures. Copies nothing."""
        return Conditioning(self.tokens.expand(num, -1, -1), self.mask.expand(num, -1))


def pad_embeddings(embeddings: Sequence[Tensor], device: torch.device, least: int = 1) -> tuple[Tensor, Tensor]:
    """Ragged text embeddings [L_i, ...] -> (padded with zeros [B, L, ...], mask [B, L] bool); L is at least `least`."""
    lengths = torch.tensor([len(embedding) for embedding in embeddings])
    longest = max(least, int(lengths.max()))
    padded = embeddings[0].new_zeros((len(embeddings), longest, *embeddings[0].shape[1:]))
    for row, embedding in zip(padded, embeddings, strict=True):
        row[: len(embedding)] = embedding
    mask = torch.arange(longest) < lengths[:, None]
    return padded.to(device), mask.to(device)


class CaptionKV(NamedTuple):
    """Captions as a network reads them: keys and values of every block, computed once and reused at every step."""

    keys: tuple[Tensor, ...]  # one per block [B, L, heads, D / heads]
    values: tuple[Tensor, ...]  # likewise
    mask: Tensor  # [B, L] bool
    pooled_text: Tensor  # [B, D] the mean of the tokens
    kept: Tensor | None = None  # [B, F] in training with dropout: what the features are multiplied by

    def told(self, labels: Tensor) -> CaptionKV:
        """The captions with numbers [B, K] about the pictures, each along a direction of the pooled text of its own.

        Zeros change nothing, so a network that is told nothing needs no further weights. Directions: cosines of growing
        frequency, which are orthogonal and as long as a token.
        """
        width, num = self.pooled_text.shape[-1], labels.shape[-1]
        phase = torch.arange(width, device=labels.device) + 0.5
        frequency = math.pi / width * torch.arange(1, num + 1, device=labels.device)
        directions = math.sqrt(2) * (frequency[:, None] * phase).cos()
        return self._replace(pooled_text=self.pooled_text + (labels @ directions).to(self.pooled_text.dtype))

    def select(self, index: int) -> CaptionKV:
        """Caption `index` alone, B = 1."""
        row = slice(index, index + 1)
        keys, values = (tuple(part[row] for part in parts) for parts in (self.keys, self.values))
        return CaptionKV(keys, values, self.mask[row], self.pooled_text[row])


def concat_padded(texts: Sequence[CaptionKV]) -> CaptionKV:
    """Captions one after another, [sum of B, ...]; shorter ones are padded."""
    if len(texts) == 1:
        return texts[0]
    longest = max(text.mask.shape[1] for text in texts)

    def stacked(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([F.pad(part, (0, 0, 0, 0, 0, longest - part.shape[1])) for part in parts])

    return CaptionKV(
        tuple(stacked(block) for block in zip(*(text.keys for text in texts), strict=True)),
        tuple(stacked(block) for block in zip(*(text.values for text in texts), strict=True)),
        torch.cat([F.pad(text.mask, (0, longest - text.mask.shape[1])) for text in texts]),
        torch.cat([text.pooled_text for text in texts]),
    )
