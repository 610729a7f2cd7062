"""Legibility of captions: how many a text encoder cannot read or tell apart, and the choice of an encoder by it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tintype.data.check.report import counted
from tintype.data.sources.row_file import RowFile, sorted_by_key
from tintype.errors import MissingExtraError
from tintype.model.nets.legibility import NAMED, FrozenReader, Reader, named
from tintype.model.nets.tokens import encoder_folder, require_packages

MAX_ILLEGIBLE = 0.01  # share of captions with unknown signs up to which `choose_encoder` takes minilm
MAX_EQUAL = 0.001  # share of captions that become equal, likewise: none of fewer than 2,000
MAX_SPELLED = 0.1  # share of captions read letter by letter, likewise
_SPELLED = 0.75  # tokens a letter from which a caption is; 0.2 to 0.6 in languages with Latin letters
BATCH = 1_000  # captions that the tokenizer reads at once
# Of one caption: two hashes, and whether it has unknown signs and is read letter by letter.
_ROW = np.dtype([("key", "<u8"), ("tokens", "<u8"), ("unknown", "?"), ("spelled", "?")])


@dataclass(frozen=True, slots=True)
class Legibility:
    """How well a text encoder reads captions. Letter case and spaces make no other caption."""

    num: int  # different captions
    illegible: int  # of these, with signs or words that the encoder does not know
    equal: int  # of these, with the same tokens as another
    spelled: int = 0  # of these, in letters that it knows one by one, but no word of: see `_is_spelled`
    words: tuple[str, ...] = ()  # the first that it does not know
    missing: str = ""  # why the encoder is not there, so that nothing was measured

    @property
    def is_good(self) -> bool:
        """Whether the encoder can tell these captions apart, and knows more of most than letters."""
        if self.missing:
            return False
        limits = ((self.illegible, MAX_ILLEGIBLE), (self.equal, MAX_EQUAL), (self.spelled, MAX_SPELLED))
        return all(number <= share * self.num for number, share in limits)

    def note(self, encoder: str, chosen: str) -> str:
        """One line about what `encoder` cannot read, if anything; `chosen` is the encoder that reads the captions."""
        if self.missing:
            why = f"the text encoder {encoder} cannot be used ({self.missing})"
            return f"{why}: text {chosen} reads the captions instead"
        losses = [
            f"does not know signs or words in {self.illegible} ({named(self.words)})" if self.illegible else "",
            f"cannot tell {self.equal} from another one" if self.equal else "",
            f"knows only the letters of {self.spelled}" if self.spelled else "",
        ]
        if not any(losses):
            return ""
        of = f"of {counted(self.num, 'different caption')}"
        text = f"{of}, the text encoder {encoder} {', '.join(filter(None, losses))}"
        if encoder != chosen:
            return f"{text}: text {chosen} reads them instead"
        return text if chosen == "learned" else f"{text}: --text learned reads every sign"


def measure_legibility(captions: Iterable[str], reader: Reader) -> Legibility:
    """Count what a reader cannot read of captions, in memory that does not grow with their number."""
    rows, words = RowFile(_ROW), dict[str, None]()
    remaining = iter(captions)
    while batch := list(islice(remaining, BATCH)):
        unknown = reader.illegible(batch)
        table = np.empty(len(batch), dtype=_ROW)
        table["key"] = [_hash("".join(caption.lower().split())) for caption in batch]
        tokens = reader.token_ids(batch)
        table["tokens"] = [_hash(tuple(ids)) for ids in tokens]
        table["spelled"] = [_is_spelled(caption, len(ids)) for caption, ids in zip(batch, tokens, strict=True)]
        table["unknown"] = [bool(signs) for signs in unknown]
        rows.append(table.tobytes())
        if len(words) <= NAMED:
            words.update(dict.fromkeys(sign for signs in unknown for sign in signs))
    distinct = RowFile(_ROW)
    for part in sorted_by_key(rows, lambda _, part: part):
        _, first = np.unique(part["key"], return_index=True)
        distinct.append(part[first].tobytes())
    illegible = equal = spelled = 0
    for part in sorted_by_key(distinct, lambda _, part: _by_tokens(part)):
        illegible += int(part["unknown"].sum())
        spelled += int(part["spelled"].sum())
        _, times = np.unique(part["key"], return_counts=True)
        equal += int(times[times > 1].sum())
    return Legibility(len(distinct), illegible, equal, spelled, tuple(islice(words, NAMED + 1)))


def choose_encoder(captions: Iterable[str]) -> tuple[str, Legibility]:
    """The text encoder "auto" for captions: minilm if it can tell them apart, else learned; and what minilm reads.

    Where a package is missing that minilm needs, learned is chosen as well. Raises CheckpointError if its files are
    damaged.
    """
    try:
        require_packages()
        legibility = measure_legibility(captions, FrozenReader(encoder_folder("minilm")))
    except MissingExtraError as error:
        legibility = Legibility(0, 0, 0, missing=str(error))
    return "minilm" if legibility.is_good else "learned", legibility


def _is_spelled(caption: str, num_tokens: int) -> bool:
    """Whether most letters are of another alphabet, such as Arabic, Greek or Russian, and nearly each is a token.

    A Chinese sign is a word, not a letter.
    """
    letters = [sign for sign in caption if sign.isalpha() and not "\u3400" <= sign <= "\u9fff"]
    foreign = sum(not sign.isascii() for sign in letters)
    return 2 * foreign > len(letters) and num_tokens > _SPELLED * len(letters)


def _hash(value: Hashable) -> int:
    return hash(value) % 2**64


def _by_tokens(rows: NDArray[Any]) -> NDArray[Any]:
    """The same rows with the hash of the tokens as their key."""
    rows = rows.copy()
    rows["key"] = rows["tokens"]
    return rows
