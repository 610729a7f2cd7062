"""Scenes of the shapes world: colors, shapes and relations, and random scenes of them.

Every scene is a pure function of (seed, index), so any part of a data set can be drawn alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import numpy as np

T = TypeVar("T")
RGB = tuple[int, int, int]

# Any two of these twelve are at least 75 apart in RGB, and an object's color at least 100 from all others.
COLORS: dict[str, RGB] = {
    "red": (205, 20, 45),
    "orange": (255, 125, 0),
    "yellow": (255, 230, 0),
    "green": (20, 160, 50),
    "cyan": (0, 205, 225),
    "blue": (25, 75, 215),
    "purple": (150, 35, 200),
    "pink": (255, 110, 190),
}
BACKGROUNDS: dict[str, RGB] = {
    "white": (255, 255, 255),
    "gray": (128, 128, 128),
    "black": (0, 0, 0),
    "cream": (255, 236, 180),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
SIZES = ("small", "large")  # an object without a size word is about medium
RELATIONS = ("left", "right", "above", "below")
KINDS = ("single", "count", "relation")
_KINDS_DRAWN = (*KINDS, "relation")  # twice as often as the others: relations are the hardest to learn
SPLITS = ("train", "held_out")

# Never in a training picture, for any seed; every color and every shape occurs in other combinations.
HELD_OUT_PAIRS = frozenset({("red", "star"), ("blue", "circle"), ("green", "cross"), ("yellow", "triangle")})
# (color on the left or on top, color on the right or below), for any wording of the caption.
HELD_OUT_ARRANGEMENTS = frozenset(
    {("red", "blue"), ("green", "yellow"), ("purple", "orange"), ("cyan", "pink"), ("yellow", "red"), ("blue", "green")}
)


@dataclass(frozen=True, slots=True)
class ObjectSpec:
    """A described object, or several identical ones; None for an unspecified size."""

    color: str
    shape: str
    size: str | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """The content of a caption: `count` identical objects, or specs[0] `relation` specs[1]; None is unspecified."""

    specs: tuple[ObjectSpec, ...]
    count: int = 1
    relation: str | None = None
    background: str | None = None

    @property
    def kind(self) -> str:
        """ "single", "count" or "relation"."""
        return "relation" if self.relation else "single" if self.count == 1 else "count"

    @property
    def objects(self) -> tuple[ObjectSpec, ...]:
        """One entry per object in the picture."""
        return self.specs if self.relation else self.specs * self.count


class RandomStream(IntEnum):
    """Independent random streams of one index; the numbers never change."""

    TRAIN_SCENE = 0
    HELD_OUT_SCENE = 1
    CAPTION = 2
    PICTURE = 3


def make_rng(seed: int, index: int, stream: RandomStream) -> np.random.Generator:
    """The random generator of one stream of one index; seed and index are taken modulo 2^64."""
    mask = 2**64 - 1
    key = np.array([seed & mask, index & mask], dtype=np.uint64)  # a list of large numbers would be rounded
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, int(stream)]))


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, with equal probability."""
    return options[int(rng.random() * len(options))]


def has_held_out_combination(scene: Scene) -> bool:
    """Whether the scene has a color and shape, or an arrangement of two colors, that no training picture shows."""
    if any((spec.color, spec.shape) in HELD_OUT_PAIRS for spec in scene.specs):
        return True
    if scene.relation is None:
        return False
    first, second = scene.specs[0].color, scene.specs[1].color
    return ((first, second) if scene.relation in ("left", "above") else (second, first)) in HELD_OUT_ARRANGEMENTS


def scene_at(seed: int, index: int, split: str = "train") -> Scene:
    """The scene at `index` for `seed`: without held-out combinations in split "train", with one in "held_out".

    Raises ValueError for another split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    held_out = split == "held_out"
    rng = make_rng(seed, index, RandomStream.HELD_OUT_SCENE if held_out else RandomStream.TRAIN_SCENE)
    kind = pick(rng, _KINDS_DRAWN)
    while True:
        scene = _random_scene(kind, rng)
        if has_held_out_combination(scene) == held_out:
            return scene


def _random_scene(kind: str, rng: np.random.Generator) -> Scene:
    background = pick(rng, tuple(BACKGROUNDS)) if rng.random() < 0.5 else None
    first, second = _random_object(rng), _random_object(rng)
    if kind == "single":
        return Scene((first,), background=background)
    if kind == "count":
        count = 2 + int(rng.random() * 2)
        if count == 3 and first.size == "large":  # three large objects would touch
            first = ObjectSpec(first.color, first.shape)
        return Scene((first,), count, background=background)
    while (second.color, second.shape) == (first.color, first.shape):
        second = _random_object(rng)
    if first.size == second.size == "large":  # nor is there room for a clear relation of two large ones
        second = ObjectSpec(second.color, second.shape, "small")
    return Scene((first, second), 2, pick(rng, RELATIONS), background)


def _random_object(rng: np.random.Generator) -> ObjectSpec:
    size = pick(rng, SIZES) if rng.random() < 0.4 else None
    return ObjectSpec(pick(rng, tuple(COLORS)), pick(rng, SHAPES), size)
