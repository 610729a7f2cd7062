"""Notes about a request: what will not do what other programs taught people to expect of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tintype.config import Config
from tintype.config.sizes import Size, size_text
from tintype.pipeline.sizes import model_size

# Weights and networks in the notation of other programs: (red:1.3), ((red)), <lora:style:0.8>.
_WEIGHT = re.compile(r"\([^()]{1,200}:\s{0,9}[+-]?\d{0,9}\.?\d{1,9}\s{0,9}\)|\({2}[^()]{1,200}\){2}")
_ADAPTER = re.compile(r"<(?:lora|lyco|hypernet):[^<>]{1,200}>", re.IGNORECASE)
LARGE = 2  # times the side of a training picture; beyond it models repeat and scatter what they draw
CUT = 0.02  # of a starting picture; less is not worth a word
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


def size_notes(config: Config, size: Size) -> list[str]:
    """A note for a size far beyond those of training."""
    limit = LARGE * config.net.resolution
    if max(size) <= limit or size in config.sizes:
        return []
    return [
        f"{size_text(size)} is more than {LARGE} times the {config.net.resolution} pixels that this model was trained "
        f"at, and it may repeat or scatter what it draws; enlarge makes {size_text(model_size(config, size))} and "
        "enlarges that"
    ]


def cut_notes(picture: Size, size: Size) -> list[str]:
    """A note for a starting picture that has another shape than the `size` it is fitted into."""
    ratio = picture[0] * size[1] / (picture[1] * size[0])
    cut = 1 - min(ratio, 1 / ratio)
    if cut < CUT:
        return []
    ends = "left and right" if ratio > 1 else "top and bottom"
    return [f"{cut:.0%} of the starting picture, {size_text(picture)}, is cut off {ends} to fit {size_text(size)}"]


def _short(text: str) -> str:
    return text if len(text) <= _MAX_EXAMPLE else text[: _MAX_EXAMPLE - 1] + "…"
