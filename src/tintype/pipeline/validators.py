"""Validators: each returns the checked value of an option, or raises ConfigError with the option's name and range."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import SupportsFloat, SupportsIndex, TypeVar

from tintype.errors import ConfigError
from tintype.pipeline.limits import MAX_SEED

T = TypeVar("T")


def integer(name: str, value: SupportsIndex, low: int, high: int) -> int:
    """A whole number from low to high."""
    try:
        result = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        result = None
    if result is None or not low <= result <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, not {value!r}")
    return result


def number(name: str, value: float, low: float, high: float) -> float:
    """A number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name} must be a number, not {value!r}")
    if not low <= value <= high:
        raise ConfigError(f"{name} must be between {low:g} and {high:g}, not {value:g}")
    return float(value)


def noise_levels(
    name: str, values: Iterable[SupportsFloat], min_steps: int, max_steps: int, highest: float
) -> tuple[float, ...]:
    """Noise levels [K + 1], decreasing from `highest` or less to 0; a step leads from each to the next."""
    try:
        levels = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} must be a name, a function or noise levels, not {values!r}") from None
    if not min_steps <= len(levels) - 1 <= max_steps:
        raise ConfigError(f"{name} must have {min_steps + 1} to {max_steps + 1} noise levels, not {len(levels)}")
    if not levels[0] <= highest or levels[-1] != 0 or not all(a > b for a, b in pairwise(levels)):
        raise ConfigError(f"{name} must be noise levels that decrease from at most {highest:g} and end with 0")
    return levels


def side(name: str, value: SupportsIndex, patch: int, high: int) -> int:
    """Width or height in pixels: a multiple of the patch."""
    pixels = integer(name, value, patch, high)
    if pixels % patch:
        raise ConfigError(f"{name} must be a multiple of {patch} for this model, not {pixels}")
    return pixels


def one_of(name: str, names: Collection[str], value: str) -> str:
    """One of several names."""
    if value not in names:
        raise ConfigError(f"{name} must be one of {', '.join(names)}, not {value!r}")
    return value


def strings(name: str, value: str | Sequence[str], max_length: int) -> tuple[str, ...]:
    """One string or several, each of at most `max_length` characters."""
    result = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not result or not all(isinstance(text, str) for text in result):
        raise ConfigError(f"{name} must be a text or a list of at least one text, not {value!r}")
    longest = max(map(len, result))
    if longest > max_length:
        raise ConfigError(f"a text may have at most {max_length:,} characters, not {longest:,}")
    return result


def per_caption(name: str, values: Sequence[T], num: int) -> Sequence[T]:
    """A list with an entry for each of `num` captions."""
    if len(values) != num:
        raise ConfigError(f"there must be one {name} per caption: {num}, not {len(values)}")
    return values


def each_seed(seeds: int | Sequence[int] | None, num: int) -> tuple[int, ...]:
    """One seed for each of `num` captions, from a list or from one seed for all; None is 0."""
    values = seeds if isinstance(seeds, Sequence) else [0 if seeds is None else seeds] * num
    return tuple(integer("seed", seed, 0, MAX_SEED) for seed in per_caption("seed", values, num))
