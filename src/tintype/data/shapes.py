"""A world of drawn pictures with captions that a program can check: colored shapes, counted and placed.

A caption says a `Scene`; what it leaves unsaid (a size, the background) is free, drawn at random and not checked.
Every scene, caption and picture is a pure function of (seed, index), so any part of a world can be made again alone.
Lengths are in units of 1/32 of the picture's side: one pixel of a 32 pixel picture.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageDraw

from tintype.errors import DataError

T = TypeVar("T")
RGB = tuple[int, int, int]
Point = tuple[float, float]

SIDE = 32.0  # of every picture, in the units of this file
GAP = 2.0  # at least this much background between two objects
MARGIN = 0.75  # and this much between an object and the picture's edge
SUPERSAMPLE = 8  # pictures are drawn this much larger, then averaged down

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
SIZES = ("small", "large")  # an object with no size word is about medium, whatever looks well
RELATIONS = ("left", "right", "above", "below")
KINDS = ("single", "count", "relation")
SPLITS = ("train", "held_out")

# Radius of an object by size word, alone and in company. Small ends well below 4.6 and large begins well above 5.85.
RADIUS_ALONE = {"small": (3.9, 4.2), None: (5.0, 8.0), "large": (7.0, 9.0)}
RADIUS_IN_COMPANY = {"small": (3.9, 4.1), None: (5.0, 5.4), "large": (6.3, 6.5)}

# Never in a training picture, for any seed; every color and every shape is in training in other combinations.
HELD_OUT_PAIRS = frozenset({("red", "star"), ("blue", "circle"), ("green", "cross"), ("yellow", "triangle")})
# (color on the left or on top, color on the right or below), however the caption words it.
HELD_OUT_ARRANGEMENTS = frozenset(
    {("red", "blue"), ("green", "yellow"), ("purple", "orange"), ("cyan", "pink"), ("yellow", "red"), ("blue", "green")}
)


@dataclass(frozen=True, slots=True)
class Thing:
    """One described object, or several alike; size None where the caption says none."""

    color: str
    shape: str
    size: str | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """What a caption says: `count` objects alike, or things[0] `relation` things[1]; None where it says nothing."""

    things: tuple[Thing, ...]
    count: int = 1
    relation: str | None = None
    background: str | None = None

    @property
    def kind(self) -> str:
        """ "single", "count" or "relation"."""
        return "relation" if self.relation else "single" if self.count == 1 else "count"

    @property
    def objects(self) -> tuple[Thing, ...]:
        """One entry per object in the picture."""
        return self.things if self.relation else self.things * self.count


class Example(NamedTuple):
    """One captioned picture and what its caption says."""

    picture: Image.Image
    caption: str
    scene: Scene


class _Stream(IntEnum):
    """Independent random streams of one index; the numbers are fixed for ever."""

    TRAIN_SCENE = 0
    HELD_OUT_SCENE = 1
    CAPTION = 2
    PICTURE = 3


def _rng(seed: int, index: int, stream: _Stream) -> np.random.Generator:
    mask = 2**64 - 1
    return np.random.Generator(np.random.Philox(key=[seed & mask, index & mask], counter=[0, 0, 0, int(stream)]))


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.random() * len(options))]


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")


# --- scenes ---------------------------------------------------------------------------------------------------------


def is_held_out(scene: Scene) -> bool:
    """Whether the scene has a (color, shape) pair or a color arrangement that no training picture shows."""
    if any((thing.color, thing.shape) in HELD_OUT_PAIRS for thing in scene.things):
        return True
    if scene.relation is None:
        return False
    first, second = scene.things[0].color, scene.things[1].color
    return ((first, second) if scene.relation in ("left", "above") else (second, first)) in HELD_OUT_ARRANGEMENTS


def scene_of(seed: int, index: int, split: str = "train") -> Scene:
    """The scene at `index` of the world `seed`: never held out in split "train", always in "held_out".

    ValueError for another split.
    """
    _check_split(split)
    held_out = split == "held_out"
    rng = _rng(seed, index, _Stream.HELD_OUT_SCENE if held_out else _Stream.TRAIN_SCENE)
    kind = _pick(rng, KINDS)
    while True:
        scene = _any_scene(kind, rng)
        if is_held_out(scene) == held_out:
            return scene


def _any_scene(kind: str, rng: np.random.Generator) -> Scene:
    background = _pick(rng, tuple(BACKGROUNDS)) if rng.random() < 0.5 else None
    first, second = _any_thing(rng), _any_thing(rng)
    if kind == "single":
        return Scene((first,), background=background)
    if kind == "count":
        count = 2 + int(rng.random() * 2)
        if count == 3 and first.size == "large":  # three large objects would touch
            first = Thing(first.color, first.shape)
        return Scene((first,), count, background=background)
    while (second.color, second.shape) == (first.color, first.shape):
        second = _any_thing(rng)
    if first.size == second.size == "large":  # nor is there room for a clear relation of two
        second = Thing(second.color, second.shape, "small")
    return Scene((first, second), 2, _pick(rng, RELATIONS), background)


def _any_thing(rng: np.random.Generator) -> Thing:
    size = _pick(rng, SIZES) if rng.random() < 0.4 else None
    return Thing(_pick(rng, tuple(COLORS)), _pick(rng, SHAPES), size)


# --- drawing --------------------------------------------------------------------------------------------------------


def _star() -> tuple[Point, ...]:
    angles = [math.radians(-90 + 36 * k) for k in range(10)]
    radii = [1.12 if k % 2 == 0 else 0.50 for k in range(10)]
    return tuple((r * math.cos(a), r * math.sin(a) + 0.10) for r, a in zip(radii, angles, strict=True))


def _circle() -> tuple[Point, ...]:
    return tuple((math.cos(math.tau * k / 72), math.sin(math.tau * k / 72)) for k in range(72))


# Outlines of radius about 1 with y downward, their bounding boxes centered on the origin.
_ARM = 0.34
OUTLINES: dict[str, tuple[Point, ...]] = {
    "circle": _circle(),
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": ((0.0, -0.95), (1.06, 0.95), (-1.06, 0.95)),
    "star": _star(),
    "cross": (
        (-_ARM, -1.0), (_ARM, -1.0), (_ARM, -_ARM), (1.0, -_ARM), (1.0, _ARM), (_ARM, _ARM),
        (_ARM, 1.0), (-_ARM, 1.0), (-_ARM, _ARM), (-1.0, _ARM), (-1.0, -_ARM), (-_ARM, -_ARM),
    ),
}  # fmt: skip
HALF_EXTENT: dict[str, Point] = {
    shape: (max(abs(x) for x, _ in outline), max(abs(y) for _, y in outline)) for shape, outline in OUTLINES.items()
}


class Placed(NamedTuple):
    """One object as it is drawn: center and radius in 1/32 of the side."""

    thing: Thing
    x: float
    y: float
    radius: float


def place(scene: Scene, rng: np.random.Generator) -> list[Placed]:
    """Places for the scene's objects: apart by `GAP`, relations clear of doubt, sizes as said."""
    radii = RADIUS_ALONE if scene.kind == "single" else RADIUS_IN_COMPANY
    things = scene.objects
    if scene.kind == "count":  # objects alike are equally large
        low, high = radii[scene.things[0].size]
        radius = np.full(len(things), low + (high - low) * rng.random())
    else:
        radius = np.array([radii[thing.size][0] + np.ptp(radii[thing.size]) * rng.random() for thing in things])
    half = radius[:, None] * np.array([HALF_EXTENT[thing.shape] for thing in things])
    low_corner = half + MARGIN
    while True:  # each round has 256 tries; one in some hundreds of scenes needs a second round
        centers = low_corner + (SIDE - 2 * low_corner) * rng.random((256, len(things), 2))
        good = np.flatnonzero(_is_clear(centers, half, scene))
        if len(good):
            places = zip(things, centers[good[0]].tolist(), radius.tolist(), strict=True)
            return [Placed(thing, x, y, r) for thing, (x, y), r in places]


def _is_clear(centers: np.ndarray, half: np.ndarray, scene: Scene) -> np.ndarray:
    """Which of the tries [N, objects, 2] keep every two objects apart and the relation plain; bool [N]."""
    clear = np.ones(len(centers), dtype=bool)
    if scene.relation:
        first, second = (0, 1) if scene.relation in ("left", "above") else (1, 0)
        offset = centers[:, second] - centers[:, first]
        along, across = (0, 1) if scene.relation in ("left", "right") else (1, 0)
        apart = offset[:, along] >= half[0, along] + half[1, along] + GAP
        return np.asarray(apart & (offset[:, along] >= 2 * np.abs(offset[:, across])))
    for i in range(len(half)):
        for j in range(i):
            distance = np.abs(centers[:, i] - centers[:, j])
            clear &= (distance >= half[i] + half[j] + GAP).any(axis=1)
    return clear


def draw(scene: Scene, size: int, rng: np.random.Generator) -> Image.Image:
    """An antialiased RGB picture of the scene, `size` pixels square, everything unsaid drawn from `rng`."""
    background = scene.background or _pick(rng, tuple(BACKGROUNDS))
    return render(place(scene, rng), BACKGROUNDS[background], size)


def render(placed: Sequence[Placed], background: RGB, size: int) -> Image.Image:
    """Objects at their places on a plain background, as an RGB picture `size` pixels square."""
    scale = size * SUPERSAMPLE / SIDE
    canvas = Image.new("RGB", (size * SUPERSAMPLE, size * SUPERSAMPLE), background)
    pen = ImageDraw.Draw(canvas)
    for thing, x, y, radius in placed:
        # Pillow paints the pixels under both ends of an edge: half a pixel less keeps the area true.
        outline = [((x + radius * u) * scale - 0.5, (y + radius * v) * scale - 0.5) for u, v in OUTLINES[thing.shape]]
        pen.polygon(outline, fill=COLORS[thing.color])
    return canvas.reduce(SUPERSAMPLE)


# --- captions -------------------------------------------------------------------------------------------------------

SIZE_WORDS = {"small": ("small", "small", "little", "tiny"), "large": ("large", "large", "big")}
OPENINGS = ("", "", "a picture of ", "a drawing of ", "an image of ")
BACKGROUND_WORDS = (
    "{} on a {b} background", "{} on a {b} background", "{} on {b}", "{}, {b} background",
    "{} against a {b} background", "on a {b} background, {}", "{}, background: {b}",
)  # fmt: skip
RELATION_WORDS = {
    "left": ("{0} left of {1}", "{0} to the left of {1}", "{0} on the left of {1}", "{1} with {0} to its left",
             "{0} on the left and {1} on the right"),
    "right": ("{0} right of {1}", "{0} to the right of {1}", "{0} on the right of {1}", "{1} with {0} to its right",
              "{0} on the right and {1} on the left"),
    "above": ("{0} above {1}", "{0} over {1}", "{0} on top of {1}", "{1} with {0} above it",
              "{0} at the top and {1} at the bottom"),
    "below": ("{0} below {1}", "{0} under {1}", "{0} beneath {1}", "{0} underneath {1}", "{1} with {0} below it",
              "{0} at the bottom and {1} at the top"),
}  # fmt: skip
COUNT_WORDS = {2: ("two", "two", "2", "a pair of"), 3: ("three", "three", "3", "a group of three")}


def caption_of(scene: Scene, rng: np.random.Generator) -> str:
    """One of the many wordings of exactly what the scene says."""
    if scene.kind == "count":
        thing = scene.things[0]
        plural = thing.shape + ("es" if thing.shape == "cross" else "s")
        said = f"{_pick(rng, COUNT_WORDS[scene.count])} {_adjectives(thing, rng)} {plural}"
        there = "there are "
    elif scene.relation:
        phrases = [_with_article(thing, rng) for thing in scene.things]
        said = _pick(rng, RELATION_WORDS[scene.relation]).format(*phrases)
        there = "there is "
    else:
        said = _with_article(scene.things[0], rng)
        there = "there is "
        if rng.random() < 0.25:  # just "red circle"
            said = said.partition(" ")[2]
            there = ""
    said = _pick(rng, (*OPENINGS, there) if there else ("",)) + said
    if scene.background:
        said = _pick(rng, BACKGROUND_WORDS).format(said, b=scene.background)
    return said


def _adjectives(thing: Thing, rng: np.random.Generator) -> str:
    return f"{_pick(rng, SIZE_WORDS[thing.size])} {thing.color}" if thing.size else thing.color


def _with_article(thing: Thing, rng: np.random.Generator) -> str:
    words = f"{_adjectives(thing, rng)} {thing.shape}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def captions(num: int, seed: int, split: str = "train") -> list[tuple[str, Scene]]:
    """The first `num` captions of a world and what each says. ValueError for an unknown split."""
    scenes = [scene_of(seed, index, split) for index in range(num)]
    return [(caption_of(scene, _rng(seed, index, _Stream.CAPTION)), scene) for index, scene in enumerate(scenes)]


def example(seed: int, index: int, split: str = "train", size: int = 64) -> Example:
    """The captioned picture at `index` of the world `seed`. ValueError for an unknown split."""
    scene = scene_of(seed, index, split)
    picture = draw(scene, size, _rng(seed, index, _Stream.PICTURE))
    return Example(picture, caption_of(scene, _rng(seed, index, _Stream.CAPTION)), scene)


# --- files ----------------------------------------------------------------------------------------------------------


def write_shapes(folder: str | Path, num: int, seed: int = 0, size: int = 64) -> None:
    """Write `num` captioned training pictures as a data folder: images/NNNNNN.png and, last of all, metadata.jsonl.

    DataError if the folder is not empty or cannot be written, or if num or size is below 1.
    """
    folder = Path(folder)
    if num < 1 or size < 1:
        raise DataError(f"cannot draw {num} pictures of {size} pixels: ask for at least one of at least one pixel")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder} is not empty: give the name of a new folder, or remove what is in it")
        (folder / "images").mkdir(parents=True)
        unfinished = folder / "metadata.jsonl.part"
        with unfinished.open("w", encoding="utf-8") as file:
            for index in range(num):
                picture, caption, _ = example(seed, index, "train", size)
                name = f"images/{index:06d}.png"
                picture.save(folder / name, compress_level=3)
                file.write(json.dumps({"file_name": name, "text": caption}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(folder / "metadata.jsonl")  # only now is the folder a data folder
    except OSError as error:
        raise DataError(f"cannot write {folder} ({error.strerror or error}): choose another folder") from error
