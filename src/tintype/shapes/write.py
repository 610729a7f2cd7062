"""Shapes data sets: captioned pictures of scenes, written as a data folder.

Every scene, caption and picture is a pure function of (seed, index), so any part of a data set can be drawn alone.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from tintype.data.sources.shapes_mark import SHAPES_MARK, make_mark
from tintype.errors import DataError
from tintype.shapes.captions import sample_caption
from tintype.shapes.draw import draw
from tintype.shapes.scenes import RandomStream, Scene, make_rng, scene_at


class Example(NamedTuple):
    """A picture, its caption and its scene."""

    picture: Image.Image
    caption: str
    scene: Scene


def example(seed: int, index: int, split: str = "train", size: int = 64) -> Example:
    """The captioned picture at `index` for `seed`. Raises ValueError for an unknown split."""
    scene = scene_at(seed, index, split)
    picture = draw(scene, size, make_rng(seed, index, RandomStream.PICTURE))
    return Example(picture, sample_caption(scene, make_rng(seed, index, RandomStream.CAPTION)), scene)


def write_shapes(folder: str | Path, num: int, seed: int = 0, size: int = 64) -> None:
    """Write `num` captioned training pictures as a data folder: images/NNNNNN.png, its mark, then metadata.jsonl.

    Raises DataError if the folder is not empty or cannot be written, or if num or size is below 1.
    """
    folder = Path(folder)
    if num < 1 or size < 1:
        raise DataError(f"cannot draw {num} pictures of {size} pixels; both numbers must be at least one")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder} is not an empty folder; give a new name, or empty it first")
        (folder / "images").mkdir(parents=True)
        partial = folder / "metadata.jsonl.part"
        with partial.open("w", encoding="utf-8") as file:
            for index in range(num):
                picture, caption, _ = example(seed, index, "train", size)
                name = f"images/{index:06d}.png"
                picture.save(folder / name, compress_level=3)
                file.write(json.dumps({"file_name": name, "text": caption}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        (folder / SHAPES_MARK).write_text(make_mark(num, seed, size), encoding="utf-8")
        partial.replace(folder / "metadata.jsonl")  # now the folder is a complete data folder
    except OSError as error:
        raise DataError(f"cannot write {folder} ({error.strerror or error}); choose another folder") from error
