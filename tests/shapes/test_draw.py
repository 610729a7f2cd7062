"""Drawings place objects apart, inside the picture and in unambiguous relations."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tintype.shapes.draw import GAP, HALF_EXTENT, MARGIN, SIDE, PlacedObject, place_objects, render
from tintype.shapes.scenes import (
    BACKGROUNDS,
    COLORS,
    ObjectSpec,
    scene_at,
)

WHITE = BACKGROUNDS["white"]
seeds = st.integers(0, 2**63 - 1)
indices = st.integers(0, 2**40)
splits = st.sampled_from(["train", "held_out"])


def rng_of(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 0]))


@settings(deadline=None, max_examples=200)
@given(seeds, indices, splits)
def test_objects_are_inside_apart_and_plainly_related(seed: int, index: int, split: str) -> None:
    scene = scene_at(seed, index, split)
    placed = place_objects(scene, rng_of(index))
    assert [one.spec for one in placed] == list(scene.objects)
    half = [
        (one.radius * HALF_EXTENT[one.spec.shape][0], one.radius * HALF_EXTENT[one.spec.shape][1]) for one in placed
    ]
    for one, (width, height) in zip(placed, half, strict=True):
        assert MARGIN + width <= one.x <= SIDE - MARGIN - width
        assert MARGIN + height <= one.y <= SIDE - MARGIN - height
    for i, j in combinations(range(len(placed)), 2):
        one, other = placed[i], placed[j]
        assert (
            abs(one.x - other.x) >= half[i][0] + half[j][0] + GAP - 1e-9
            or abs(one.y - other.y) >= half[i][1] + half[j][1] + GAP - 1e-9
        )
    if scene.relation:
        right, down = placed[1].x - placed[0].x, placed[1].y - placed[0].y
        along, across = (right, down) if scene.relation in ("left", "right") else (down, right)
        assert (along if scene.relation in ("left", "above") else -along) >= 2 * abs(across)


def test_a_picture_is_antialiased_and_shows_its_colors() -> None:
    picture = np.asarray(render([PlacedObject(ObjectSpec("red", "circle"), 16.0, 16.0, 6.0)], WHITE, 32)).astype(float)
    assert tuple(picture[16, 16]) == COLORS["red"]
    assert tuple(picture[0, 0]) == WHITE
    cover = (255 - picture[..., 1]) / (255 - COLORS["red"][1])
    assert cover.sum() == pytest.approx(math.pi * 36, rel=0.03)
    assert ((cover > 0.1) & (cover < 0.9)).sum() > 12
