"""Text: encoders (captions -> text embeddings) and the trained part (text embeddings -> Conditioning)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tintype.config import NetConfig, TextConfig
from tintype.errors import CheckpointError, ConfigError, MissingExtraError
from tintype.model.nets.conditioning import Conditioning, pad_embeddings
from tintype.model.nets.layers import Attention, SwiGLU, rms_norm, rotary_embedding
from tintype.model.nets.tokens import encoder_folder

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class TextEncoder(Protocol):
    """Turns captions into text embeddings, outside the trained model. The empty caption has no embeddings (L_i = 0)."""

    @property
    def identity(self) -> str:
        """Encoder, weights and limit as one string: encoders of equal identity give equal embeddings."""

    @property
    def embedding_dim(self) -> int:
        """D of the embeddings; 0 for token ids."""

    def text_embeddings(self, captions: Sequence[str]) -> list[Tensor]:
        """One tensor a caption: embeddings [L_i, embedding_dim] float16, or token ids [L_i] int64."""

    def num_cut(self, captions: Sequence[str]) -> int:
        """Number of captions longer than the limit, which are cut."""


class LearnedVocabulary:
    """Token ids of a byte-level BPE vocabulary learned from the captions, in any language."""

    embedding_dim = 0

    def __init__(self, tokenizer: str, max_tokens: int) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_str(tokenizer)
        except Exception as error:  # tokenizers raises plain Exception
            raise CheckpointError(f"tokenizer.json cannot be read ({error}); restore it from a backup") from None
        self.max_tokens = max_tokens
        self.identity = f"learned-{hashlib.sha256(tokenizer.encode()).hexdigest()}-{max_tokens}"

    def _token_ids(self, captions: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch([caption.lower() for caption in captions])]

    def text_embeddings(self, captions: Sequence[str]) -> list[Tensor]:
        return [torch.tensor(ids[: self.max_tokens], dtype=torch.int64) for ids in self._token_ids(captions)]

    def num_cut(self, captions: Sequence[str]) -> int:
        return sum(len(ids) > self.max_tokens for ids in self._token_ids(captions))


class FrozenEncoder:
    """A pretrained text encoder that `transformers` loads, captions -> token embeddings; never trained, never saved.

    Raises CheckpointError if the folder is missing, holds no safetensors, or has other weights than `sha256`.
    """

    def __init__(self, folder: Path, name: str, max_tokens: int, sha256: str | None = None) -> None:
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise CheckpointError(f"no model.safetensors in {folder}: --text hf: takes the folder of a text encoder")
        digest = _sha256(weights)
        if sha256 is not None and digest != sha256:
            raise CheckpointError(f"{weights} is not the expected file; reinstall the package it belongs to")
        self.max_tokens = max_tokens
        self.identity = f"{name}-{digest}-{max_tokens}"
        self._folder = folder
        self._loaded: tuple[Any, Any] | None = None

    def _load(self) -> tuple[Any, Any]:
        """Tokenizer and encoder, read when first needed: `transformers` takes seconds to import."""
        if self._loaded is None:
            try:
                from transformers import AutoModel, AutoTokenizer
                from transformers.utils import logging
            except ImportError:
                raise MissingExtraError("transformers", "transformers") from None
            logging.set_verbosity_error()
            logging.disable_progress_bar()
            tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
            model = AutoModel.from_pretrained(self._folder, local_files_only=True, use_safetensors=True)
            model = getattr(model, "encoder", model) if model.config.is_encoder_decoder else model
            self._loaded = tokenizer, model.float().eval().requires_grad_(False)
        return self._loaded

    @property
    def embedding_dim(self) -> int:
        return int(self._load()[1].config.hidden_size)

    @torch.no_grad()
    def text_embeddings(self, captions: Sequence[str]) -> list[Tensor]:
        tokenizer, model = self._load()
        nonempty = [caption for caption in captions if caption]
        embeddings = iter(())
        if nonempty:
            batch = tokenizer(nonempty, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt")
            batch = batch.to(model.device)
            hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            lengths = batch["attention_mask"].sum(1).tolist()
            embeddings = iter([row[:length].half() for row, length in zip(hidden, lengths, strict=True)])
        empty = torch.zeros(0, self.embedding_dim, dtype=torch.float16)
        return [next(embeddings) if caption else empty for caption in captions]

    def num_cut(self, captions: Sequence[str]) -> int:
        tokenizer, _ = self._load()
        return sum(len(ids) > self.max_tokens for ids in tokenizer(list(captions))["input_ids"])


def make_encoder(config: TextConfig, tokenizer: str | None = None) -> TextEncoder:
    """The text encoder `config.encoder`. Raises ConfigError, MissingExtraError or CheckpointError."""
    if config.encoder == "learned":
        if tokenizer is None:
            raise ConfigError("a learned vocabulary needs its tokenizer.json")
        return LearnedVocabulary(tokenizer, config.max_tokens)
    if config.encoder == "minilm":
        return FrozenEncoder(encoder_folder("minilm"), "minilm", config.max_tokens, MINILM_SHA256)
    return FrozenEncoder(encoder_folder(config.encoder), config.encoder, config.max_tokens)


class TextBlock(nn.Module):
    """Pre-norm transformer block on text tokens [B, L, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.feed = SwiGLU(width)

    def forward(self, x: Tensor, rope: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(rms_norm(x), rope, mask=mask)
        out: Tensor = x + self.feed(rms_norm(x))
        return out


class TextRefiner(nn.Module):
    """Trained text layers: embeddings -> Conditioning [B, 1 + L, D].

    A learned null token stands before every caption; alone, it is the empty caption.
    """

    # Attributes name the weights in model files: start is the null token.

    def __init__(self, net: NetConfig, text: TextConfig) -> None:
        super().__init__()
        if text.encoder == "learned":
            self.embed: nn.Module = nn.Embedding(text.vocabulary, net.width)
        else:
            self.embed = nn.Linear(text.embedding_dim, net.width)
        self.start = nn.Parameter(torch.randn(net.width))
        self.head_width = net.width // net.heads
        self.blocks = nn.ModuleList(TextBlock(net.width, net.heads) for _ in range(net.text_depth))

    def muon_matrices(self) -> dict[str, int]:
        """Attention: see `network.MuonMatrices`."""
        stacked = {"attention.qkv.weight": 3, "attention.out.weight": 1}
        names = [name for name, _ in self.named_parameters()]
        return {name: num for name in names for end, num in stacked.items() if name.endswith(end)}

    def shard_units(self) -> list[list[nn.Module]]:
        """Block by block."""
        return [[block] for block in self.blocks]

    def forward(self, embeddings: Sequence[Tensor]) -> Conditioning:
        """Embeddings [L_i, embedding_dim] or token ids [L_i], one tensor a caption -> Conditioning [B, 1 + L, D]."""
        padded, mask = pad_embeddings(embeddings, self.start.device)
        tokens = self.embed(padded if padded.dtype == torch.int64 else padded.to(self.start.dtype))
        tokens = torch.cat([self.start.expand(len(tokens), 1, -1), rms_norm(tokens)], dim=1)
        mask = torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)
        rope = rotary_embedding(torch.arange(tokens.shape[1], device=tokens.device)[:, None], self.head_width)
        for block in self.blocks:
            tokens = block(tokens, rope, mask[:, None, None])
        return Conditioning(rms_norm(tokens), mask)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
