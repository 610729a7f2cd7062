"""Values of options, checked: the number itself, or a ConfigError that names the option and its range."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Sequence
from typing import SupportsIndex, TypeVar

from tintype.errors import ConfigError

T = TypeVar("T")


def whole(name: str, value: SupportsIndex, low: int, high: int) -> int:
    """A whole number from low to high."""
    try:
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is None or not low <= found <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, not {value!r}")
    return found


def number(name: str, value: float, low: float, high: float) -> float:
    """A number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name} must be a number, not {value!r}")
    if not low <= value <= high:
        raise ConfigError(f"{name} must be between {low:g} and {high:g}, not {value:g}")
    return float(value)


def side(name: str, value: SupportsIndex, patch: int, most: int) -> int:
    """Width or height in pixels: a multiple of the patch."""
    found = whole(name, value, patch, most)
    if found % patch:
        raise ConfigError(f"{name} must be a multiple of {patch} for this model, not {found}")
    return found


def one_of(name: str, names: Collection[str], value: str) -> str:
    """One of several names."""
    if value not in names:
        raise ConfigError(f"{name} must be one of {', '.join(names)}, not {value!r}")
    return value


def texts(name: str, given: str | Sequence[str], most: int) -> tuple[str, ...]:
    """A text or several, of at most so many characters each."""
    found = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    if not found or not all(isinstance(text, str) for text in found):
        raise ConfigError(f"{name} must be a text or a list of at least one text, not {given!r}")
    longest = max(map(len, found))
    if longest > most:
        raise ConfigError(f"a text may have at most {most:,} characters, not {longest:,}")
    return found


def per_caption(name: str, given: Sequence[T], num: int) -> Sequence[T]:
    """A list with an entry for each of `num` captions."""
    if len(given) != num:
        raise ConfigError(f"there must be one {name} per caption: {num}, not {len(given)}")
    return given
