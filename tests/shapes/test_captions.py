"""Captions state exactly what a scene specifies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tintype.shapes.captions import SIZE_WORDS, captioned_scenes, sample_caption
from tintype.shapes.scenes import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    ObjectSpec,
    Scene,
    scene_at,
)
from tintype.shapes.write import example

RED_CIRCLE = Scene((ObjectSpec("red", "circle"),))
seeds = st.integers(0, 2**63 - 1)
indices = st.integers(0, 2**40)
splits = st.sampled_from(["train", "held_out"])


def rng_of(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 0]))


def test_a_list_of_captions_agrees_with_the_examples() -> None:
    for index, (caption, scene) in enumerate(captioned_scenes(20, seed=3, split="held_out")):
        assert (caption, scene) == example(3, index, "held_out", 16)[1:]


@settings(deadline=None, max_examples=300)
@given(seeds, indices, splits)
def test_a_caption_says_the_scene_and_no_more(seed: int, index: int, split: str) -> None:
    scene = scene_at(seed, index, split)
    caption = sample_caption(scene, rng_of(index))
    words = caption.replace(",", "").replace(":", "").split()
    singular = {"crosses": "cross"} | {f"{shape}s": shape for shape in SHAPES}
    for names, said in (
        (COLORS, [spec.color for spec in scene.specs]),
        (SHAPES, [spec.shape for spec in scene.specs]),
        (BACKGROUNDS, [scene.background] if scene.background else []),
    ):
        singulars = [singular.get(word, word) for word in words]
        assert sorted(word for word in singulars if word in names) == sorted(said)
    for size, synonyms in SIZE_WORDS.items():
        assert sum(word in synonyms for word in words) == sum(spec.size == size for spec in scene.specs)
    assert "a orange" not in caption
    assert ("crosses" in words or any(f"{shape}s" in words for shape in SHAPES)) == (scene.kind == "count")


@pytest.mark.parametrize(
    ("scene", "wanted"),
    [
        (RED_CIRCLE, {"a red circle", "red circle", "a picture of a red circle", "there is a red circle"}),
        (
            Scene((ObjectSpec("orange", "star", "large"),)),
            {"a large orange star", "a big orange star", "big orange star"},
        ),
        (Scene((ObjectSpec("green", "cross"),), 2), {"two green crosses", "there are two green crosses"}),
        (Scene((ObjectSpec("pink", "star"),), 3), {"three pink stars", "3 pink stars", "a group of three pink stars"}),
        (
            Scene((ObjectSpec("red", "circle"), ObjectSpec("orange", "square")), 2, "left"),
            {"a red circle left of an orange square", "an orange square with a red circle to its left"},
        ),
        (
            Scene((ObjectSpec("red", "circle"), ObjectSpec("blue", "square")), 2, "below"),
            {"a red circle under a blue square", "a red circle beneath a blue square"},
        ),
        (
            Scene((ObjectSpec("red", "circle"),), background="black"),
            {"a red circle on a black background", "a red circle, background: black", "red circle on black"},
        ),
    ],
)
def test_a_scene_has_many_wordings(scene: Scene, wanted: set[str]) -> None:
    rng = rng_of(1)
    assert wanted <= {sample_caption(scene, rng) for _ in range(600)}
