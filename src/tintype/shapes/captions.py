"""Captions of the shapes world: many wordings of exactly what a scene specifies."""

from __future__ import annotations

import numpy as np

from tintype.shapes.scenes import ObjectSpec, RandomStream, Scene, make_rng, pick, scene_at

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


def sample_caption(scene: Scene, rng: np.random.Generator) -> str:
    """A random wording of exactly what the scene specifies."""
    if scene.kind == "count":
        spec = scene.specs[0]
        plural = spec.shape + ("es" if spec.shape == "cross" else "s")
        caption = f"{pick(rng, COUNT_WORDS[scene.count])} {_adjectives(spec, rng)} {plural}"
        opening = "there are "
    elif scene.relation:
        phrases = [_with_article(spec, rng) for spec in scene.specs]
        caption = pick(rng, RELATION_WORDS[scene.relation]).format(*phrases)
        opening = "there is "
    else:
        caption = _with_article(scene.specs[0], rng)
        opening = "there is "
        if rng.random() < 0.25:  # just "red circle"
            caption = caption.partition(" ")[2]
            opening = ""
    caption = pick(rng, (*OPENINGS, opening) if opening else ("",)) + caption
    if scene.background:
        caption = pick(rng, BACKGROUND_WORDS).format(caption, b=scene.background)
    return caption


def _adjectives(spec: ObjectSpec, rng: np.random.Generator) -> str:
    return f"{pick(rng, SIZE_WORDS[spec.size])} {spec.color}" if spec.size else spec.color


def _with_article(spec: ObjectSpec, rng: np.random.Generator) -> str:
    words = f"{_adjectives(spec, rng)} {spec.shape}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def captioned_scenes(num: int, seed: int, split: str = "train") -> list[tuple[str, Scene]]:
    """The first `num` captions for a seed, with their scenes. Raises ValueError for an unknown split."""
    scenes = [scene_at(seed, index, split) for index in range(num)]
    return [
        (sample_caption(scene, make_rng(seed, index, RandomStream.CAPTION)), scene)
        for index, scene in enumerate(scenes)
    ]
