"""What the network is told besides the noisy picture: the caption, as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
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


def pad_embeddings(embeddings: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ragged text embeddings [L_i, ...] -> (padded with zeros [B, L, ...], mask [B, L] bool); L is at least 1."""
    lengths = torch.tensor([len(embedding) for embedding in embeddings])
    longest = max(1, int(lengths.max()))
    padded = embeddings[0].new_zeros((len(embeddings), longest, *embeddings[0].shape[1:]))
    for row, embedding in zip(padded, embeddings, strict=True):
        row[: len(embedding)] = embedding
    mask = torch.arange(longest) < lengths[:, None]
    return padded.to(device), mask.to(device)
