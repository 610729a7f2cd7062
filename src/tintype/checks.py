"""Values of options, checked: the number itself, or a ConfigError that names the option and its range."""

from __future__ import annotations

import math
import operator
from typing import SupportsIndex

from tintype.errors import ConfigError


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
