"""Legibility: the signs and words of captions that a text encoder cannot read. It needs no network and no torch."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from tintype.model.nets.tokens import VOCABULARY, panics_as_errors, read_tokenizer

NAMED = 5  # illegible signs or words that a message names
MAX_NAMED = 20  # characters of each
ILLEGIBLE = "this model cannot read {}: to it they are like any other unknown sign; say it in other words"
_MEANINGFUL = "LNS"  # Unicode categories of signs that say something: letters, numbers, symbols


class Reader(Protocol):
    """Reads captions as a text encoder does."""

    def token_ids(self, captions: Sequence[str]) -> list[list[int]]:
        """The tokens of each caption, without marks of beginning and end, before any is cut."""

    def illegible(self, captions: Sequence[str]) -> list[list[str]]:
        """The signs or words of each caption that are unknown, as they stand there."""


class FrozenReader:
    """The reader of a pretrained text encoder: what its tokenizer has no token for is the unknown token."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = read_tokenizer(folder)
        self._unknown = _unknown_id(self._tokenizer)

    def token_ids(self, captions: Sequence[str]) -> list[list[int]]:
        with panics_as_errors():
            return [entry.ids for entry in self._tokenizer.encode_batch_fast(list(captions), add_special_tokens=False)]

    @property
    def num_marks(self) -> int:
        """The tokens that the encoder adds to each caption."""
        return int(self._tokenizer.num_special_tokens_to_add(False))

    def as_read(self, caption: str, max_tokens: int) -> tuple[str, int]:
        """A caption as an encoder of so many tokens reads it, and the number of tokens that are cut off."""
        (ids,) = self.token_ids([caption])
        kept = ids[: max(0, max_tokens - self.num_marks)]
        return self._tokenizer.decode(kept, skip_special_tokens=False), len(ids) - len(kept)

    def illegible(self, captions: Sequence[str]) -> list[list[str]]:
        unknown = self._unknown
        has_unknown = [unknown is not None and unknown in ids for ids in self.token_ids(captions)]
        return [self._words(caption) if has else [] for caption, has in zip(captions, has_unknown, strict=True)]

    def _words(self, caption: str) -> list[str]:
        entry = self._tokenizer.encode(caption, add_special_tokens=False)
        spans = (span for token, span in zip(entry.ids, entry.offsets, strict=True) if token == self._unknown)
        return list(dict.fromkeys(caption[start:end] for start, end in spans))


class LearnedReader:
    """The reader of a vocabulary learned from captions: every byte is a token, but what no caption had means nothing.

    Args:
        tokenizer: as `tokens.learn_tokenizer` makes it, from JSON that `tokens.require_learned` has passed.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def token_ids(self, captions: Sequence[str]) -> list[list[int]]:
        with panics_as_errors():
            encodings = self._tokenizer.encode_batch([caption.lower() for caption in captions])
        return [encoding.ids for encoding in encodings]

    num_marks = 0

    def as_read(self, caption: str, max_tokens: int) -> tuple[str, int]:
        """As `FrozenReader.as_read`."""
        (ids,) = self.token_ids([caption])
        return self._tokenizer.decode(ids[:max_tokens]).strip(), max(0, len(ids) - max_tokens)

    def illegible(self, captions: Sequence[str]) -> list[list[str]]:
        return [list(dict.fromkeys(sign for sign in text if self._is_unknown(sign))) for text in captions]

    def _is_unknown(self, sign: str) -> bool:
        """Whether no caption had this sign; of a full vocabulary, which splits rare signs, whether none had a byte."""
        if sign.isascii() or unicodedata.category(sign)[0] not in _MEANINGFUL:
            return False
        content = _byte_signs(sign.lower())
        if content in self._merged:
            return False
        return not self._is_full or not set(content) <= set(self._merged)

    @cached_property
    def _is_full(self) -> bool:
        return bool(self._tokenizer.get_vocab_size() >= VOCABULARY)

    @cached_property
    def _merged(self) -> str:
        """All tokens of more than one byte, which captions had."""
        return " ".join(token for token in self._tokenizer.get_vocab() if len(token) > 1)


def named(words: Iterable[str]) -> str:
    """The first few illegible signs or words, for a message."""
    distinct = list(dict.fromkeys(words))
    shown = (word if len(word) <= MAX_NAMED else f"{word[:MAX_NAMED]}..." for word in distinct[:NAMED])
    return ", ".join(f"'{word}'" for word in shown) + (", ..." if len(distinct) > NAMED else "")


def _unknown_id(tokenizer: Any) -> int | None:
    """The unknown token of a tokenizer; None if it has none, since it falls back to bytes."""
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("byte_fallback"):
        return None
    if model["type"] == "Unigram":
        number: int | None = model.get("unk_id")
        return number
    token = model.get("unk_token")
    known: int | None = tokenizer.token_to_id(token) if token else None
    return known


def _byte_signs(text: str) -> str:
    """The bytes of a text as byte-level vocabularies write them, a sign for each."""
    from tokenizers.pre_tokenizers import ByteLevel

    return "".join(part for part, _ in ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text))
