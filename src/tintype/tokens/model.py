"""A token model: codebook, network and text encoder together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from tintype.config import NetConfig
from tintype.model.nets.conditioning import Conditioning
from tintype.model.nets.text import TextEncoder, TextRefiner, make_encoder
from tintype.tokens.codebook import Codebook
from tintype.tokens.config import TokenConfig
from tintype.tokens.likelihood import bits_of
from tintype.tokens.network import TokenTransformer


class TokenModel(nn.Module):
    """Captions -> the probabilities of a picture's tokens, one after another.

    Args:
        codes: of the codebook, uint8 [V, 3 * patch * patch].
        tokenizer: JSON of the learned vocabulary, for text "learned" only.
    """

    def __init__(self, config: TokenConfig, codes: Tensor, tokenizer: str | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.codebook = Codebook(codes, config.net.patch, config.net.side)
        self.net = TokenTransformer(config.net, codes)
        net = config.net
        text_net = NetConfig(width=net.width, heads=net.heads, text_depth=net.text_depth)
        self.text = TextRefiner(text_net, config.text)

    @cached_property
    def encoder(self) -> TextEncoder:
        """The text encoder; not a submodule, so that its frozen weights are never saved."""
        return make_encoder(self.config.text, self.tokenizer)

    @property
    def device(self) -> torch.device:
        return self.text.start.device

    def encode(self, captions: Sequence[str]) -> Conditioning:
        """Captions -> Conditioning [B, L, D]."""
        return self.condition(self.encoder.text_embeddings(captions))

    def condition(self, embeddings: Sequence[Tensor]) -> Conditioning:
        """Text embeddings, one tensor [L_i, ...] a caption -> Conditioning [B, L, D]."""
        return cast(Conditioning, self.text(embeddings))

    def forward(self, tokens: Tensor, cond: Conditioning) -> Tensor:
        """Tokens int64 [B, T] -> the bits of each, -log2 of its probability after those before it: float32 [B, T]."""
        reading = self.net.start(cond)
        hidden = self.net.hidden(reading, tokens[:, :-1]).flatten(0, 1)
        return bits_of(hidden, reading.matrix.to(hidden.dtype), self.net.bias, tokens.flatten()).reshape(tokens.shape)

    def muon_matrices(self) -> dict[str, int]:
        """Names of the weights that Muon steps -> number of matrices stacked in each."""
        parts = {"net": self.net.muon_matrices(), "text": self.text.muon_matrices()}
        return {f"{part}.{name}": num for part, names in parts.items() for name, num in names.items()}
