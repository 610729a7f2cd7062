"""Dropout in training: of features of the network, and noise on text embeddings, as pure functions of the position."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tintype.config import TrainConfig
from tintype.diffusion.noise import Purpose, coarse_uniform, normal

TOKENS = 2**40  # added to the position, for draws of tokens that are left out


def kept_at(train: TrainConfig, positions: Tensor, num: int) -> Tensor:
    """Factors of `num` features at `positions` [B]: 0 for a share `train.dropout`, else as much larger: [B, num].

    A feature is dropped in all places of a picture at once, since neighbors know what one place misses (Tompson et al.
    2015, arXiv 1411.4280); that takes few draws, and none depends on the batch.
    """
    drawn = coarse_uniform(train.seed, Purpose.FEATURES, positions, num)
    return (drawn >= train.dropout).float() / (1 - train.dropout)


def shortened(train: TrainConfig, positions: Tensor, embeddings: Sequence[Tensor]) -> Sequence[Tensor]:
    """Text embeddings [L_i, D] or token ids [L_i] without a share `train.token_dropout` of the tokens of each caption.

    A caption that is never the same twice is less of a key to its picture (Somepalli et al. 2023, arXiv 2305.20086).
    positions: [B].
    """
    if not train.token_dropout:
        return embeddings
    index = positions.cpu() + TOKENS
    drawn = coarse_uniform(train.seed, Purpose.TEXT, index, max(1, *map(len, embeddings)))
    return [row[part[: len(row)] >= train.token_dropout] for row, part in zip(embeddings, drawn, strict=True)]


def noisy_embeddings(train: TrainConfig, positions: Tensor, embeddings: Sequence[Tensor]) -> Sequence[Tensor]:
    """Text embeddings [L_i, D] of a frozen encoder with noise of `train.text_noise` times their own size; ids as they
    are. positions: [B]."""
    if not train.text_noise or embeddings[0].dtype == torch.int64:
        return embeddings
    longest = max(map(len, embeddings))
    noise = normal(train.seed, Purpose.TEXT, positions.cpu(), (longest, embeddings[0].shape[-1]))
    return [
        (row + train.text_noise * row.float().square().mean().sqrt() * part[: len(row)]).to(row.dtype)
        if len(row)
        else row
        for row, part in zip(embeddings, noise, strict=True)
    ]
