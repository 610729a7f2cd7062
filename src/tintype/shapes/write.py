"""A world of drawn pictures with captions that a program can check: colored shapes, counted and placed.

A caption says a `Scene`; what it leaves unsaid (a size, the background) is free, drawn at random and not checked.
Every scene, caption and picture is a pure function of (seed, index), so any part of a world can be made again alone.
`shapes_check` tells whether a picture shows what a scene says.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tintype.errors import DataError
from tintype.shapes.draw import draw
from tintype.shapes.scenes import KINDS, Scene, Stream, Thing, is_held_out, pick, rng_of, scene_of

__all__ = [
    "KINDS", "Example", "Scene", "Thing",
    "caption_of", "captions", "draw", "example", "is_held_out", "scene_of", "write_shapes",
]  # fmt: skip

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
        said = f"{pick(rng, COUNT_WORDS[scene.count])} {_adjectives(thing, rng)} {plural}"
        there = "there are "
    elif scene.relation:
        phrases = [_with_article(thing, rng) for thing in scene.things]
        said = pick(rng, RELATION_WORDS[scene.relation]).format(*phrases)
        there = "there is "
    else:
        said = _with_article(scene.things[0], rng)
        there = "there is "
        if rng.random() < 0.25:  # just "red circle"
            said = said.partition(" ")[2]
            there = ""
    said = pick(rng, (*OPENINGS, there) if there else ("",)) + said
    if scene.background:
        said = pick(rng, BACKGROUND_WORDS).format(said, b=scene.background)
    return said


def _adjectives(thing: Thing, rng: np.random.Generator) -> str:
    return f"{pick(rng, SIZE_WORDS[thing.size])} {thing.color}" if thing.size else thing.color


def _with_article(thing: Thing, rng: np.random.Generator) -> str:
    words = f"{_adjectives(thing, rng)} {thing.shape}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


class Example(NamedTuple):
    """One captioned picture and what its caption says."""

    picture: Image.Image
    caption: str
    scene: Scene


def captions(num: int, seed: int, split: str = "train") -> list[tuple[str, Scene]]:
    """The first `num` captions of a world and what each says. ValueError for an unknown split."""
    scenes = [scene_of(seed, index, split) for index in range(num)]
    return [(caption_of(scene, rng_of(seed, index, Stream.CAPTION)), scene) for index, scene in enumerate(scenes)]


def example(seed: int, index: int, split: str = "train", size: int = 64) -> Example:
    """The captioned picture at `index` of the world `seed`. ValueError for an unknown split."""
    scene = scene_of(seed, index, split)
    picture = draw(scene, size, rng_of(seed, index, Stream.PICTURE))
    return Example(picture, caption_of(scene, rng_of(seed, index, Stream.CAPTION)), scene)


def write_shapes(folder: str | Path, num: int, seed: int = 0, size: int = 64) -> None:
    """Write `num` captioned training pictures as a data folder: images/NNNNNN.png and, last of all, metadata.jsonl.

    DataError if the folder is not empty or cannot be written, or if num or size is below 1.
    """
    folder = Path(folder)
    if num < 1 or size < 1:
        raise DataError(f"cannot draw {num} pictures of {size} pixels: ask for at least one of at least one pixel")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder} is not an empty folder: give the name of a new one, or empty it first")
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
