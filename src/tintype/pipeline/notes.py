"""Notes about a request: what will not do what other programs taught people to expect of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Weights and networks in the notation of other programs: (red:1.3), ((red)), <lora:style:0.8>.
_WEIGHT = re.compile(r"\([^()]{1,200}:\s{0,9}[+-]?\d{0,9}\.?\d{1,9}\s{0,9}\)|\({2}[^()]{1,200}\){2}")
_ADAPTER = re.compile(r"<(?:lora|lyco|hypernet):[^<>]{1,200}>", re.IGNORECASE)
_MAX_EXAMPLE = 40  # characters


def caption_notes(texts: Iterable[str]) -> list[str]:
    """A note for each notation in the texts that means something elsewhere and is only words here."""
    texts = list(texts)
    notes = []
    weight = next(filter(None, map(_WEIGHT.search, texts)), None)
    if weight is not None:
        notes.append(f"{_short(weight[0])} gives no weight to words here: the model reads it as text; leave it out")
    adapter = next(filter(None, map(_ADAPTER.search, texts)), None)
    if adapter is not None:
        notes.append(f"{_short(adapter[0])} loads nothing here: the model reads it as text; leave it out")
    return notes


def _short(text: str) -> str:
    return text if len(text) <= _MAX_EXAMPLE else text[: _MAX_EXAMPLE - 1] + "…"
