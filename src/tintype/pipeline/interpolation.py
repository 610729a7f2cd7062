"""Interpolation: the second caption and the second starting noise of each picture, and their weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tintype.pipeline.limits import MAX_CAPTION, MAX_SEED
from tintype.pipeline.validators import each_seed, integer, number, per_caption, strings


@dataclass(frozen=True, slots=True)
class Interpolation:
    """One entry per picture; empty where nothing is mixed in."""

    captions: tuple[str, ...]
    seeds: tuple[int, ...]
    indices: tuple[int, ...]
    weights: tuple[float, ...]  # from 0 to 1


def no_interpolation(num: int) -> Interpolation:
    """`num` pictures with nothing mixed in."""
    return Interpolation((), (), (), (0.0,) * num)


def variations(seeds: tuple[int, ...], distance: float) -> Interpolation:
    """The first picture as it is, the others with noise that no index of a request draws. Raises ConfigError."""
    distance = number("variation", distance, 0, 1)
    private = tuple(index << 32 for index in range(len(seeds)))  # indices of pictures stay below 2^32
    return Interpolation((), seeds, private, (0.0, *(distance,) * (len(seeds) - 1)))


def interpolation(
    num: int,
    captions_to: str | Sequence[str] | None,
    seeds_to: int | Sequence[int] | None,
    indices_to: Sequence[int] | None,
    weights: Sequence[float] | None,
) -> Interpolation:
    """From the first of `num` pictures to the last, evenly if there are no weights. Raises ConfigError."""
    captions: tuple[str, ...] = ()
    if captions_to is not None:
        captions = strings("captions_to", captions_to, MAX_CAPTION)
        captions = captions * num if isinstance(captions_to, str) else captions
        per_caption("caption in captions_to", captions, num)
    indices = per_caption("index", [0] * num if indices_to is None else indices_to, num)
    indices = tuple(integer("index", index, 0, MAX_SEED) for index in indices)
    if weights is None:
        weights = [index / (num - 1) for index in range(num)] if num > 1 else [0.5]
    return Interpolation(
        captions,
        () if seeds_to is None else each_seed(seeds_to, num),
        () if seeds_to is None else indices,
        tuple(number("mix weight", weight, 0, 1) for weight in per_caption("mix weight", weights, num)),
    )
