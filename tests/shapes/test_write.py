"""The drawn world never changes and shows what it says: known answers, properties, faults."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tintype.errors import DataError
from tintype.shapes.captions import SIZE_WORDS, captioned_scenes, sample_caption
from tintype.shapes.draw import GAP, HALF_EXTENT, MARGIN, SIDE, PlacedObject, place_objects, render
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
from tintype.shapes.write import example, write_shapes

WHITE = BACKGROUNDS["white"]
RED_CIRCLE = Scene((ObjectSpec("red", "circle"),))
seeds = st.integers(0, 2**63 - 1)
indices = st.integers(0, 2**40)
splits = st.sampled_from(["train", "held_out"])


def rng_of(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 0]))


# --- the world ------------------------------------------------------------------------------------------------------


def test_the_world_of_a_seed_never_changes() -> None:
    assert [caption for caption, _ in captioned_scenes(4, seed=0)] == [
        "a drawing of a cyan square, background: white",
        "a picture of a big cyan triangle with a green star below it",
        "a purple star on the left of a tiny purple square on a gray background",
        "on a black background, an image of two red circles",
    ]


def test_colors_and_backgrounds_are_far_apart() -> None:
    for one, other in combinations(COLORS.values(), 2):
        assert math.dist(one, other) > 100
    for one, other in combinations(BACKGROUNDS.values(), 2):
        assert math.dist(one, other) > 75
    assert all(math.dist(color, back) > 100 for color in COLORS.values() for back in BACKGROUNDS.values())


@settings(deadline=None, max_examples=30)
@given(seeds, indices, splits)
def test_an_example_is_a_pure_function_of_seed_and_index(seed: int, index: int, split: str) -> None:
    first, again = example(seed, index, split, 32), example(seed, index, split, 32)
    assert (first.caption, first.scene, first.picture.tobytes()) == (
        again.caption,
        again.scene,
        again.picture.tobytes(),
    )
    assert first.picture.size == (32, 32)
    assert first.picture.mode == "RGB"


def test_seeds_and_indices_give_different_worlds() -> None:
    def pictures(seed: int, start: int) -> set[bytes]:
        return {example(seed, start + k, size=32).picture.tobytes() for k in range(40)}

    assert not pictures(0, 0) & pictures(1, 0)
    assert not pictures(0, 0) & pictures(0, 40)
    assert pictures(-1, 0) == pictures(2**64 - 1, 0)


def test_a_list_of_captions_agrees_with_the_examples() -> None:
    for index, (caption, scene) in enumerate(captioned_scenes(20, seed=3, split="held_out")):
        assert (caption, scene) == example(3, index, "held_out", 16)[1:]


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


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="held_out"):
        scene_at(0, 0, "test")


# --- captions -------------------------------------------------------------------------------------------------------


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
        found = [singular.get(word, word) for word in words]
        assert sorted(word for word in found if word in names) == sorted(said)
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


# --- drawing --------------------------------------------------------------------------------------------------------


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


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_world_is_written_as_an_ordinary_data_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "shapes"
    write_shapes(folder, 5, seed=2, size=32)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["file_name"] for row in rows] == [f"images/{k:06d}.png" for k in range(5)]
    assert sorted(path.name for path in folder.iterdir()) == ["images", "metadata.jsonl"]
    for index, row in enumerate(rows):
        wanted = example(2, index, "train", 32)
        assert row["text"] == wanted.caption
        with Image.open(folder / row["file_name"]) as picture:
            assert picture.tobytes() == wanted.picture.tobytes()


def test_the_folder_is_read_as_captioned_pictures(tmp_path: Path) -> None:
    sources = pytest.importorskip("tintype.data.sources.find")
    write_shapes(tmp_path, 3, size=16)
    pairs, problems = sources.find_pairs(tmp_path)
    assert [pair.key for pair in pairs] == [f"images/{k:06d}.png" for k in range(3)]
    assert not problems


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(DataError, match="empty"):
        write_shapes(tmp_path, 1)
    with pytest.raises(DataError, match="empty"):
        write_shapes(tmp_path / "holiday.jpg", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_nothing_is_not_a_world(tmp_path: Path) -> None:
    for num, size in ((0, 64), (-1, 64), (1, 0)):
        with pytest.raises(DataError, match="at least one"):
            write_shapes(tmp_path / "new", num, size=size)
    assert not (tmp_path / "new").exists()


def test_half_a_folder_is_not_taken_for_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Image.Image.save

    def full_disk(picture: Image.Image, path: Path, **options: int) -> None:
        if "000003" in path.name:
            raise OSError(28, "No space left on device")
        save(picture, path, **options)

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(DataError, match="No space left"):
        write_shapes(tmp_path / "new", 9, size=16)
    assert not (tmp_path / "new" / "metadata.jsonl").exists()
