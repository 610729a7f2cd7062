"""How often a model draws what the caption says, judged by a program: the drawn world of `data.shapes`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from PIL import Image

from tintype.diffusion.noise import Purpose, permutation
from tintype.metrics.intervals import Estimate, proportion
from tintype.shapes.captions import captioned_scenes
from tintype.shapes.draw import draw
from tintype.shapes.judge import Verdict, check_picture
from tintype.shapes.scenes import HELD_OUT_ARRANGEMENTS, HELD_OUT_PAIRS, RandomStream, Scene, make_rng

SEED = 1_000_003  # of the captions asked for; far from any seed of training
SPLITS = {"new": "train", "held out": "held_out"}
# What is said of a picture -> what it is called. "Binding": of two things, each has its own color and shape.
ATTRIBUTES = {
    "shapes": "object", "colors": "color", "count": "count", "relation": "position", "sizes": "size",
    "background": "background", "binding": "binding", "all": "all",
}  # fmt: skip
_WORD = re.compile(r"[a-z]+|\d+")
_MIN_KNOWN = 0.98  # share of captions that speak only the words of the world: then the data are of the world


class CaptionTask(NamedTuple):
    """A caption of the world, and what it says."""

    number: int  # in the world of its split
    caption: str
    scene: Scene


@dataclass(frozen=True, slots=True)
class Score:
    """How often something was right, of the pictures whose captions say it."""

    right: Estimate
    num: int


def caption_tasks(split: str, num: int, seen: Collection[str]) -> list[CaptionTask]:
    """The first `num` different captions of a split, "train" or "held_out", that are not in `seen`."""
    found: dict[str, CaptionTask] = {}
    for index, (caption, scene) in enumerate(captioned_scenes(8 * num + 200, SEED, split)):
        if caption not in seen and caption not in found and len(found) < num:
            found[caption] = CaptionTask(index, caption, scene)
    return list(found.values())


def is_shapes_data(texts: Sequence[str]) -> bool:
    """Whether captions are those of the drawn world, so that a program can check them."""
    known = _vocabulary()
    some = texts[:: max(1, len(texts) // 500)]
    return bool(some) and sum(set(_WORD.findall(text.lower())) <= known for text in some) >= _MIN_KNOWN * len(some)


@cache
def _vocabulary() -> frozenset[str]:
    said = (caption for split in SPLITS.values() for caption, _ in captioned_scenes(600, SEED, split))
    return frozenset(word for caption in said for word in _WORD.findall(caption))


def concept_distance(scene: Scene) -> int:
    """How many things in a scene no training picture shows together: pairs of color and shape, arrangements of two.

    0 for what training pictures show; the distance of Okawa et al. (2310.09336), counted in combinations.
    """
    pairs = sum((spec.color, spec.shape) in HELD_OUT_PAIRS for spec in scene.specs)
    if scene.relation is None:
        return pairs
    first, second = scene.specs[0].color, scene.specs[1].color
    arranged = (first, second) if scene.relation in ("left", "above") else (second, first)
    return pairs + (arranged in HELD_OUT_ARRANGEMENTS)


def judge_pictures(pictures: Iterable[Image.Image], asked: Sequence[CaptionTask]) -> list[Verdict]:
    """What each picture shows of what was asked."""
    return [check_picture(picture, ask.scene) for picture, ask in zip(pictures, asked, strict=True)]


def is_correct(verdict: Verdict, scene: Scene, attribute: str) -> bool | None:
    """Whether a picture is right in an attribute; None where the caption does not speak of it."""
    if attribute != "binding":
        value: bool | None = getattr(verdict, attribute)
        return value
    return verdict.shapes and verdict.colors if scene.relation is not None else None


def attribute_score(verdicts: Sequence[Verdict], scenes: Sequence[Scene], attribute: str) -> Score:
    """The share of pictures that are right in an attribute, of those whose captions speak of it."""
    said = [
        value
        for verdict, scene in zip(verdicts, scenes, strict=True)
        if (value := is_correct(verdict, scene, attribute)) is not None
    ]
    return Score(proportion(sum(said), len(said)), len(said))


def attribute_scores(verdicts: Sequence[Verdict], scenes: Sequence[Scene]) -> dict[str, Score]:
    """`attribute_score` of every attribute."""
    return {attribute: attribute_score(verdicts, scenes, attribute) for attribute in ATTRIBUTES}


def fraction_correct(verdict: Verdict, scene: Scene) -> float:
    """Share of the attributes a caption speaks of that a picture shows: finer than all or nothing."""
    names = [name for name in ATTRIBUTES if name not in ("all", "binding")]
    said = [value for name in names if (value := is_correct(verdict, scene, name)) is not None]
    return sum(said) / len(said)


def chance_scores(asked: Sequence[CaptionTask], size: int, seed: int) -> dict[str, Score]:
    """How often a model would be right that draws the world well and ignores the caption.

    Each caption is judged by a picture drawn for another one of the same kind of captions.
    """
    order = permutation(seed, Purpose.PAIRED, 0, len(asked)).tolist()
    verdicts, scenes = [], []
    for own, other in zip(order, order[1:] + order[:1], strict=True):
        picture = draw(asked[other].scene, size, make_rng(SEED, asked[other].number, RandomStream.PICTURE))
        verdicts.append(check_picture(picture, asked[own].scene))
        scenes.append(asked[own].scene)
    return attribute_scores(verdicts, scenes)
