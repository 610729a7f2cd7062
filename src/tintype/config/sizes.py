"""Sizes of pictures as text: `40x24`, width before height, in pixels; several between spaces."""

from __future__ import annotations

import re

from tintype.errors import ConfigError

Size = tuple[int, int]  # width, height
MAX_SIZES = 8  # in one setting
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)


def is_size(text: str) -> bool:
    """Whether `parse_size` reads the text."""
    return _SIZE.fullmatch(text) is not None


def parse_size(text: str) -> Size:
    """Width and height from WIDTHxHEIGHT. Raises ConfigError for any other text."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(f"a size must be WIDTHxHEIGHT, such as 48x32, not {text[:40]!r}")
    return int(match[1]), int(match[2])


def parse_sizes(text: str) -> tuple[Size, ...]:
    """Sizes from text that has spaces between them; none from an empty text. Raises ConfigError."""
    sizes = text.split(" ", MAX_SIZES) if text else []
    if len(sizes) > MAX_SIZES:
        raise ConfigError(f"there may be at most {MAX_SIZES} sizes")
    return tuple(map(parse_size, sizes))


def size_text(size: Size) -> str:
    """The text that `parse_size` reads."""
    return f"{size[0]}x{size[1]}"
