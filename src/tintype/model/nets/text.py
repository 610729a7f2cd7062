"""Text: encoders (captions -> text embeddings) and the trained part (text embeddings -> Conditioning)."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tintype.config import NetConfig, TextConfig
from tintype.errors import CheckpointError, ConfigError, MissingExtraError
from tintype.model.meta_device import meta_device
from tintype.model.nets import encoder_files
from tintype.model.nets.conditioning import Conditioning, pad_embeddings
from tintype.model.nets.encoder_files import MINILM_SHA256
from tintype.model.nets.layers import Attention, SwiGLU, line_rope, rms_norm
from tintype.model.nets.legibility import FrozenReader, LearnedReader, Reader
from tintype.model.nets.tokens import encoder_folder, panics_as_errors, require_learned
from tintype.model.read_file import read_header

MANY_CAPTIONS = 512  # in one call: from here on they are sorted by length, and in bfloat16 where that pays
_SORTED_BATCH = 64  # captions
_BF16_GAIN = 1.3  # a batch must be this much faster in bfloat16
_PASSES = 3  # per measurement; the fastest counts
MAX_UNSAVED = 10**7  # weights of a text encoder, beyond four times those in its file, that may be missing there


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

    @property
    def reader(self) -> Reader:
        """Its tokens, and what it cannot read."""


class LearnedVocabulary:
    """Token ids of a byte-level BPE vocabulary learned from the captions, in any language."""

    embedding_dim = 0

    def __init__(self, tokenizer: str, max_tokens: int, vocabulary: int = 0) -> None:
        from tokenizers import Tokenizer

        require_learned(tokenizer, vocabulary)
        try:
            with panics_as_errors():
                self._tokenizer = Tokenizer.from_str(tokenizer)
        except CheckpointError:
            raise
        except Exception as error:  # tokenizers raises plain Exception
            raise CheckpointError(f"tokenizer.json cannot be read ({error}); restore it from a backup") from None
        self.reader: Reader = LearnedReader(self._tokenizer)
        self.max_tokens = max_tokens
        self.identity = f"learned-{hashlib.sha256(tokenizer.encode()).hexdigest()}-{max_tokens}"

    def text_embeddings(self, captions: Sequence[str]) -> list[Tensor]:
        return [torch.tensor(ids[: self.max_tokens], dtype=torch.int64) for ids in self.reader.token_ids(captions)]

    def num_cut(self, captions: Sequence[str]) -> int:
        return sum(len(ids) > self.max_tokens for ids in self.reader.token_ids(captions))


class FrozenEncoder:
    """A pretrained text encoder that `transformers` loads, captions -> token embeddings; never trained, never saved.

    It runs no code from the folder and fetches nothing. Raises CheckpointError if the folder is missing, holds no
    safetensors, names code of its own (`encoder_files.require_harmless`), or has other files than `sha256`.

    Args:
        sha256: of model.safetensors, config.json and tokenizer.json; None: unknown.
        bf16: encode MANY_CAPTIONS at once in bfloat16 if that is faster here.
    """

    def __init__(
        self, folder: Path, name: str, max_tokens: int, sha256: dict[str, str] | None = None, bf16: bool = False
    ) -> None:
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise CheckpointError(f"no model.safetensors in {folder}: --text hf: takes the folder of a text encoder")
        encoder_files.require_harmless(folder)
        hashes = encoder_files.hashes(folder)
        for file, expected in (sha256 or {}).items():
            if hashes.get(file) != expected:
                raise CheckpointError(f"{folder / file} is not the expected file; reinstall the package it belongs to")
        self.max_tokens = max_tokens
        self.identity = f"{name}-{encoder_files.identity_of(folder, hashes)}-{max_tokens}"
        self._bf16 = bf16
        self._folder = folder
        self._loaded: tuple[Any, Any] | None = None

    def _load(self) -> tuple[Any, Any]:
        """Tokenizer and encoder, read when first needed: `transformers` takes seconds to import."""
        if self._loaded is None:
            import_transformers()
            from transformers import AutoConfig, AutoModel, AutoTokenizer
            from transformers.utils import logging

            logging.set_verbosity_error()
            logging.disable_progress_bar()
            safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
            try:
                with panics_as_errors():
                    tokenizer = AutoTokenizer.from_pretrained(self._folder, **safe)
                config = AutoConfig.from_pretrained(self._folder, **safe)
                self._require_fit(config)
                model = AutoModel.from_pretrained(self._folder, config=config, use_safetensors=True, **safe)
            except (CheckpointError, MemoryError):
                raise
            except Exception as error:  # transformers raises many kinds for files that are no text encoder
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                raise CheckpointError(
                    f"{self._folder} cannot be loaded as a text encoder ({reason}); use another one"
                ) from None
            model = getattr(model, "encoder", model) if model.config.is_encoder_decoder else model
            self._loaded = tokenizer, model.float().eval().requires_grad_(False)
        return self._loaded

    def _require_fit(self, config: Any) -> None:
        """Raise CheckpointError if the encoder of a configuration has far more weights than its file."""
        from transformers import AutoModel

        header = read_header(self._folder / "model.safetensors")
        saved = sum(math.prod(shape) for _, shape in header.values())
        with meta_device():
            expected = sum(p.numel() for p in AutoModel.from_config(config, trust_remote_code=False).parameters())
        if expected > 4 * saved + MAX_UNSAVED:
            raise CheckpointError(
                f"{self._folder}: config.json describes {expected:,} weights, but model.safetensors has {saved:,}; "
                "copy the text encoder again"
            )

    @property
    def embedding_dim(self) -> int:
        return int(self._load()[1].config.hidden_size)

    @property
    def module(self) -> nn.Module:
        """The encoder as `transformers` has it: (input_ids, attention_mask) -> an object with last_hidden_state."""
        module: nn.Module = self._load()[1]
        return module

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return self._folder

    @torch.no_grad()
    def text_embeddings(self, captions: Sequence[str]) -> list[Tensor]:
        nonempty = [caption for caption in captions if caption]
        if len(nonempty) < MANY_CAPTIONS:
            embeddings = self._encoded(nonempty) if nonempty else []
        else:
            embeddings = self._encoded_by_length(nonempty)
        remaining = iter(embeddings)
        empty = torch.zeros(0, self.embedding_dim, dtype=torch.float16)
        return [next(remaining) if caption else empty for caption in captions]

    def _encoded(self, captions: Sequence[str]) -> list[Tensor]:
        """The text embeddings of captions, padded to the longest: [L_i, D] float16 each."""
        tokenizer, model = self._load()
        with panics_as_errors():
            batch = tokenizer(captions, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt")
        batch = batch.to(model.device)
        hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        lengths = batch["attention_mask"].sum(1).tolist()
        return [row[:length].half() for row, length in zip(hidden, lengths, strict=True)]

    def _encoded_by_length(self, captions: Sequence[str]) -> list[Tensor]:
        """The same for many captions, in batches of about equal length, so that little is computed for padding."""
        lengths = list(map(len, self.reader.token_ids(captions)))
        order = sorted(range(len(captions)), key=lambda number: lengths[number])
        embeddings = [torch.empty(0)] * len(captions)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16_is_faster):
            for start in range(0, len(order), _SORTED_BATCH):
                numbers = order[start : start + _SORTED_BATCH]
                for number, rows in zip(numbers, self._encoded([captions[i] for i in numbers]), strict=True):
                    embeddings[number] = rows
        return embeddings

    @cached_property
    def _bf16_is_faster(self) -> bool:
        """Whether batches are clearly faster in bfloat16: measured, as some processors have it but are slow at it."""
        if not self._bf16:
            return False
        captions, seconds = ["one of some captions of the usual length"] * 16, {False: math.inf, True: math.inf}
        for bf16 in (False, True) * _PASSES:
            start = time.thread_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                self._encoded(captions)
            seconds[bf16] = min(seconds[bf16], time.thread_time() - start)
        return _BF16_GAIN * seconds[True] < seconds[False]

    def num_cut(self, captions: Sequence[str]) -> int:
        tokenizer, _ = self._load()
        with panics_as_errors():
            numbers = tokenizer(list(captions))["input_ids"]
        return sum(len(ids) > self.max_tokens for ids in numbers)

    @cached_property
    def reader(self) -> Reader:
        return FrozenReader(self._folder)


def import_transformers() -> None:
    """Import what a FrozenEncoder needs. Raises MissingExtraError if it is not there or cannot be imported here."""
    try:
        from transformers import AutoConfig, AutoModel, AutoTokenizer  # noqa: F401
    except (ImportError, RuntimeError):  # RuntimeError: a package that it needs has another version
        raise MissingExtraError("transformers", "transformers") from None


def make_encoder(config: TextConfig, tokenizer: str | None = None) -> TextEncoder:
    """The text encoder `config.encoder`. Raises ConfigError, MissingExtraError or CheckpointError."""
    if config.encoder == "auto":
        raise ConfigError('text "auto" is chosen when training starts; name an encoder, such as minilm')
    if config.encoder == "learned":
        if tokenizer is None:
            raise ConfigError("a learned vocabulary needs its tokenizer.json")
        return LearnedVocabulary(tokenizer, config.max_tokens, config.vocabulary)
    if config.encoder == "minilm":
        return FrozenEncoder(encoder_folder("minilm"), "minilm", config.max_tokens, MINILM_SHA256, bf16=True)
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
        return self.refine(*pad_embeddings(embeddings, self.start.device))

    def positions(self, num: int) -> Tensor:
        """The rotary embedding of captions of `num` tokens, the null token not counted."""
        return line_rope(num + 1, self.head_width, self.start.device)

    def refine(self, padded: Tensor, mask: Tensor, rope: Tensor | None = None) -> Conditioning:
        """`forward` for embeddings or token ids that are padded, [B, L, ...], with their mask [B, L].

        rope: `positions(L)`, for compiled text layers, which would make it again at every call.
        """
        tokens = self.embed(padded if padded.dtype == torch.int64 else padded.to(self.start.dtype))
        tokens = torch.cat([self.start.expand(tokens.shape[0], 1, -1), rms_norm(tokens)], dim=1)
        mask = torch.cat([mask.new_ones(mask.shape[0], 1), mask], dim=1)
        rope = line_rope(tokens.shape[1], self.head_width, tokens.device) if rope is None else rope
        for block in self.blocks:
            tokens = block(tokens, rope, mask[:, None, None])
        return Conditioning(rms_norm(tokens), mask)
