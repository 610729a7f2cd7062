"""Scenes: held-out combinations stay out of training, colors are distinct."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tintype.shapes.captions import captioned_scenes
from tintype.shapes.scenes import (
    BACKGROUNDS,
    COLORS,
    HELD_OUT_PAIRS,
    RELATIONS,
    SHAPES,
    ObjectSpec,
    Scene,
    has_held_out_combination,
    scene_at,
)

seeds = st.integers(0, 2**63 - 1)
indices = st.integers(0, 2**40)


def test_colors_and_backgrounds_are_far_apart() -> None:
    for one, other in combinations(COLORS.values(), 2):
        assert math.dist(one, other) > 100
    for one, other in combinations(BACKGROUNDS.values(), 2):
        assert math.dist(one, other) > 75
    assert all(math.dist(color, back) > 100 for color in COLORS.values() for back in BACKGROUNDS.values())


@settings(deadline=None)
@given(seeds, indices)
def test_only_the_held_out_split_shows_what_is_held_out(seed: int, index: int) -> None:
    assert not has_held_out_combination(scene_at(seed, index, "train"))
    assert has_held_out_combination(scene_at(seed, index, "held_out"))


def test_one_pair_in_ten_is_held_out_and_training_shows_all_others() -> None:
    assert len(HELD_OUT_PAIRS) == len(COLORS) * len(SHAPES) // 10
    scenes = [scene for _, scene in captioned_scenes(2500, seed=0)]
    pairs = {(spec.color, spec.shape) for scene in scenes for spec in scene.specs}
    assert pairs == {(color, shape) for color in COLORS for shape in SHAPES} - HELD_OUT_PAIRS
    for attribute, wanted in (
        ("kind", {"single", "count", "relation"}),
        ("count", {1, 2, 3}),
        ("relation", {None, *RELATIONS}),
        ("background", {None, *BACKGROUNDS}),
    ):
        assert {getattr(scene, attribute) for scene in scenes} == wanted


@pytest.mark.parametrize(
    ("relation", "held_out"), [("left", True), ("above", True), ("right", False), ("below", False)]
)
def test_an_arrangement_is_what_the_picture_shows_not_how_it_is_worded(relation: str, held_out: bool) -> None:
    red, blue = (
        ObjectSpec("red", "square"),
        ObjectSpec("blue", "square"),
    )  # red on the left of blue, or on top of it, is held out
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}[relation]
    assert has_held_out_combination(Scene((red, blue), 2, relation)) is held_out
    assert has_held_out_combination(Scene((blue, red), 2, opposite)) is held_out
