"""Shapes accuracy: captions to sample, and how often images show what the captions say, judged by a program."""

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

SEED = 1_000_003  # of the captions; far from any seed of training data
SPLITS = {"new": "train", "held out": "held_out"}
# Attribute of a verdict -> its name in the report. "Binding": each of two objects has its own color and shape.
ATTRIBUTES = {
    "shapes": "object", "colors": "color", "count": "count", "relation": "position", "sizes": "size",
    "background": "background", "binding": "binding", "all": "all",
}  # fmt: skip
_WORD = re.compile(r"[a-z]+|\d+")
_MIN_KNOWN = 0.98  # share of captions with only words of the shapes world, for data to count as shapes


class CaptionTask(NamedTuple):
    """A caption of the shapes world and its scene."""

    number: int  # index in its split
    caption: str
    scene: Scene


@dataclass(frozen=True, slots=True)
class Score:
    """The share of images with an attribute right, of those whose captions specify it."""

    right: Estimate
    num: int


def caption_tasks(split: str, num: int, known: Collection[str]) -> list[CaptionTask]:
    """The first `num` distinct captions of a split, "train" or "held_out", that are not among the `known` ones."""
    tasks: dict[str, CaptionTask] = {}
    for index, (caption, scene) in enumerate(captioned_scenes(8 * num + 200, SEED, split)):
        if caption not in known and caption not in tasks and len(tasks) < num:
            tasks[caption] = CaptionTask(index, caption, scene)
    return list(tasks.values())


def is_shapes_data(captions: Sequence[str]) -> bool:
    """Whether captions have the words of the shapes world and no others, in whatever script.

    People's own captions may, too: it takes more to know that a program can judge images (`EvalData.is_drawn`).
    """
    known = _vocabulary()
    sample = captions[:: max(1, len(captions) // 500)]
    words = (re.findall(r"[a-z]+|\d+|[^\x00-\x7f]", caption.lower()) for caption in sample)
    num_known = sum(len(caption) > 1 and set(caption) <= known for caption in words)
    return bool(sample) and num_known >= _MIN_KNOWN * len(sample)


@cache
def _vocabulary() -> frozenset[str]:
    captions = (caption for split in SPLITS.values() for caption, _ in captioned_scenes(600, SEED, split))
    return frozenset(word for caption in captions for word in _WORD.findall(caption))


def concept_distance(scene: Scene) -> int:
    """The number of combinations in a scene that no training picture shows: of color and shape, of two colors.

    The concept distance of Okawa et al. 2023, arXiv 2310.09336, counted in combinations.
    """
    pairs = sum((spec.color, spec.shape) in HELD_OUT_PAIRS for spec in scene.specs)
    if scene.relation is None:
        return pairs
    first, second = scene.specs[0].color, scene.specs[1].color
    arranged = (first, second) if scene.relation in ("left", "above") else (second, first)
    return pairs + (arranged in HELD_OUT_ARRANGEMENTS)


def judge_pictures(pictures: Iterable[Image.Image], tasks: Sequence[CaptionTask]) -> list[Verdict]:
    """Judge each picture by the scene of its task."""
    return [check_picture(picture, task.scene) for picture, task in zip(pictures, tasks, strict=True)]


def is_correct(verdict: Verdict, scene: Scene, attribute: str) -> bool | None:
    """Whether a picture has an attribute right; None where the caption does not specify it."""
    if attribute != "binding":
        value: bool | None = getattr(verdict, attribute)
        return value
    return verdict.shapes and verdict.colors if scene.relation is not None else None


def attribute_score(verdicts: Sequence[Verdict], scenes: Sequence[Scene], attribute: str) -> Score:
    """The share of pictures with an attribute right, of those whose captions specify it."""
    correct = [
        value
        for verdict, scene in zip(verdicts, scenes, strict=True)
        if (value := is_correct(verdict, scene, attribute)) is not None
    ]
    return Score(proportion(sum(correct), len(correct)), len(correct))


def attribute_scores(verdicts: Sequence[Verdict], scenes: Sequence[Scene]) -> dict[str, Score]:
    """The `attribute_score` of every attribute."""
    return {attribute: attribute_score(verdicts, scenes, attribute) for attribute in ATTRIBUTES}


def fraction_correct(verdict: Verdict, scene: Scene) -> float:
    """The share of the specified attributes that a picture has right: finer than all or nothing."""
    names = [name for name in ATTRIBUTES if name not in ("all", "binding")]
    correct = [value for name in names if (value := is_correct(verdict, scene, name)) is not None]
    return sum(correct) / len(correct)


def chance_scores(tasks: Sequence[CaptionTask], size: int, seed: int) -> dict[str, Score]:
    """The scores of a model that draws perfectly and ignores captions: true pictures of other captions are judged."""
    order = permutation(seed, Purpose.PAIRED, 0, len(tasks)).tolist()
    verdicts, scenes = [], []
    for row, other in zip(order, order[1:] + order[:1], strict=True):
        picture = draw(tasks[other].scene, size, make_rng(SEED, tasks[other].number, RandomStream.PICTURE))
        verdicts.append(check_picture(picture, tasks[row].scene))
        scenes.append(tasks[row].scene)
    return attribute_scores(verdicts, scenes)
