"""The drawn world is fixed, says what it draws, and is judged rightly: known answers, properties, measured rates."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from tintype.data import shapes, shapes_draw, shapes_world
from tintype.data.shapes import Scene, Thing, caption_of, captions, draw, example, is_held_out, scene_of, write_shapes
from tintype.data.shapes_check import check_picture, look
from tintype.data.shapes_draw import GAP, HALF_EXTENT, MARGIN, OUTLINES, SIDE, Placed, place, render
from tintype.data.shapes_world import BACKGROUNDS, COLORS, RELATIONS, SHAPES, SIZES

WHITE = BACKGROUNDS["white"]
RED_CIRCLE = Scene((Thing("red", "circle"),))
seeds = st.integers(0, 2**63 - 1)
indices = st.integers(0, 2**40)
splits = st.sampled_from(["train", "held_out"])


def rng_of(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 0]))


# --- the world ------------------------------------------------------------------------------------------------------


def test_the_world_of_a_seed_never_changes() -> None:
    assert [caption for caption, _ in captions(4, seed=0)] == [
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
        return {example(seed, start + k, size=16).picture.tobytes() for k in range(40)}

    assert not pictures(0, 0) & pictures(1, 0)
    assert not pictures(0, 0) & pictures(0, 40)
    assert pictures(-1, 0) == pictures(2**64 - 1, 0)


def test_a_list_of_captions_agrees_with_the_examples() -> None:
    for index, (caption, scene) in enumerate(captions(20, seed=3, split="held_out")):
        assert (caption, scene) == example(3, index, "held_out", 16)[1:]


@settings(deadline=None)
@given(seeds, indices)
def test_only_the_held_out_split_shows_what_is_held_out(seed: int, index: int) -> None:
    assert not is_held_out(scene_of(seed, index, "train"))
    assert is_held_out(scene_of(seed, index, "held_out"))


def test_one_pair_in_ten_is_held_out_and_training_shows_all_others() -> None:
    assert len(shapes_world.HELD_OUT_PAIRS) == len(COLORS) * len(SHAPES) // 10
    scenes = [scene for _, scene in captions(2500, seed=0)]
    pairs = {(thing.color, thing.shape) for scene in scenes for thing in scene.things}
    assert pairs == {(color, shape) for color in COLORS for shape in SHAPES} - shapes_world.HELD_OUT_PAIRS
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
    red, blue = Thing("red", "square"), Thing("blue", "square")  # red on the left of blue, or on top of it, is held out
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}[relation]
    assert is_held_out(Scene((red, blue), 2, relation)) is held_out
    assert is_held_out(Scene((blue, red), 2, opposite)) is held_out


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="held_out"):
        scene_of(0, 0, "test")


# --- captions -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(seeds, indices, splits)
def test_a_caption_says_the_scene_and_no_more(seed: int, index: int, split: str) -> None:
    scene = scene_of(seed, index, split)
    caption = caption_of(scene, rng_of(index))
    words = caption.replace(",", "").replace(":", "").split()
    singular = {"crosses": "cross"} | {f"{shape}s": shape for shape in SHAPES}
    for names, said in (
        (COLORS, [thing.color for thing in scene.things]),
        (SHAPES, [thing.shape for thing in scene.things]),
        (BACKGROUNDS, [scene.background] if scene.background else []),
    ):
        found = [singular.get(word, word) for word in words]
        assert sorted(word for word in found if word in names) == sorted(said)
    for size, synonyms in shapes.SIZE_WORDS.items():
        assert sum(word in synonyms for word in words) == sum(thing.size == size for thing in scene.things)
    assert "a orange" not in caption
    assert ("crosses" in words or any(f"{shape}s" in words for shape in SHAPES)) == (scene.kind == "count")


@pytest.mark.parametrize(
    ("scene", "wanted"),
    [
        (RED_CIRCLE, {"a red circle", "red circle", "a picture of a red circle", "there is a red circle"}),
        (Scene((Thing("orange", "star", "large"),)), {"a large orange star", "a big orange star", "big orange star"}),
        (Scene((Thing("green", "cross"),), 2), {"two green crosses", "there are two green crosses"}),
        (Scene((Thing("pink", "star"),), 3), {"three pink stars", "3 pink stars", "a group of three pink stars"}),
        (
            Scene((Thing("red", "circle"), Thing("orange", "square")), 2, "left"),
            {"a red circle left of an orange square", "an orange square with a red circle to its left"},
        ),
        (
            Scene((Thing("red", "circle"), Thing("blue", "square")), 2, "below"),
            {"a red circle under a blue square", "a red circle beneath a blue square"},
        ),
        (
            Scene((Thing("red", "circle"),), background="black"),
            {"a red circle on a black background", "a red circle, background: black", "red circle on black"},
        ),
    ],
)
def test_a_scene_has_many_wordings(scene: Scene, wanted: set[str]) -> None:
    rng = rng_of(1)
    assert wanted <= {caption_of(scene, rng) for _ in range(600)}


# --- drawing --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(seeds, indices, splits)
def test_objects_are_inside_apart_and_plainly_related(seed: int, index: int, split: str) -> None:
    scene = scene_of(seed, index, split)
    placed = place(scene, rng_of(index))
    assert [one.thing for one in placed] == list(scene.objects)
    half = [
        (one.radius * HALF_EXTENT[one.thing.shape][0], one.radius * HALF_EXTENT[one.thing.shape][1]) for one in placed
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
    picture = np.asarray(render([Placed(Thing("red", "circle"), 16.0, 16.0, 6.0)], WHITE, 32)).astype(float)
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
    sources = pytest.importorskip("tintype.data.sources")
    write_shapes(tmp_path, 3, size=16)
    pairs, problems = sources.find_pairs(tmp_path)
    assert [pair.key for pair in pairs] == [f"images/{k:06d}.png" for k in range(3)]
    assert not problems


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(shapes.DataError, match="empty"):
        write_shapes(tmp_path, 1)
    with pytest.raises(shapes.DataError, match="empty"):
        write_shapes(tmp_path / "holiday.jpg", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_nothing_is_not_a_world(tmp_path: Path) -> None:
    for num, size in ((0, 64), (-1, 64), (1, 0)):
        with pytest.raises(shapes.DataError, match="at least one"):
            write_shapes(tmp_path / "new", num, size=size)
    assert not (tmp_path / "new").exists()


def test_half_a_folder_is_not_taken_for_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Image.Image.save

    def full_disk(picture: Image.Image, path: Path, **options: int) -> None:
        if "000003" in path.name:
            raise OSError(28, "No space left on device")
        save(picture, path, **options)

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(shapes.DataError, match="No space left"):
        write_shapes(tmp_path / "new", 9, size=16)
    assert not (tmp_path / "new" / "metadata.jsonl").exists()


# --- the checker: what is right is found right ----------------------------------------------------------------------


def soften(picture: Image.Image, rng: np.random.Generator, blur: float, noise: float) -> Image.Image:
    """Blur by a Gaussian of `blur` units and add noise of that standard deviation."""
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(blur * picture.width / SIDE)), dtype=float)
    noised = blurred + noise * rng.standard_normal(blurred.shape)
    return Image.fromarray(noised.round().clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(("blur", "noise", "least"), [(0.0, 0.0, 0.99), (0.5, 8.0, 0.97), (0.8, 8.0, 0.97)])
def test_drawn_pictures_are_found_right(size: int, blur: float, noise: float, least: float) -> None:
    rng = rng_of(size)
    num = 160
    right = 0
    for index in range(num):
        picture, _, scene = example(5, index, ("train", "held_out")[index % 2], size)
        right += check_picture(soften(picture, rng, blur, noise) if blur else picture, scene).all
    assert right / num >= least


@pytest.mark.parametrize("size", [32, 64, 200])
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_what_is_in_a_picture_is_seen_where_it_is(size: int, background: str) -> None:
    placed = [
        Placed(Thing("green", "star"), 9.3, 8.6, 6.4),
        Placed(Thing("yellow", "cross"), 24.1, 10.2, 4.0),
        Placed(Thing("blue", "triangle"), 15.7, 24.4, 5.2),
    ]
    view = look(render(placed, BACKGROUNDS[background], size))
    assert view.background == background
    assert view.clean
    assert len(view.objects) == 3
    for one in placed:
        seen = min(view.objects, key=lambda seen: math.dist((seen.x, seen.y), (one.x, one.y)))
        assert (seen.color, seen.shape) == (one.thing.color, one.thing.shape)
        assert (seen.x, seen.y) == pytest.approx((one.x, one.y), abs=0.15)
        assert seen.radius == pytest.approx(one.radius, rel=0.05)


def test_a_verdict_speaks_only_of_what_is_said() -> None:
    picture = draw(RED_CIRCLE, 32, rng_of(0))
    verdict = check_picture(picture, RED_CIRCLE)
    assert (verdict.count, verdict.shapes, verdict.colors) == (True, True, True)
    assert (verdict.sizes, verdict.relation, verdict.background) == (None, None, None)
    assert verdict.all
    array = np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))
    assert check_picture(array, RED_CIRCLE) == verdict


def test_one_wording_of_a_picture_is_as_good_as_the_other() -> None:
    one, other = Thing("red", "circle", "small"), Thing("blue", "square")
    picture = draw(Scene((one, other), 2, "left"), 32, rng_of(0))
    assert check_picture(picture, Scene((other, one), 2, "right")).all


# --- the checker: what is wrong is found wrong ----------------------------------------------------------------------


def other(rng: np.random.Generator, options: list[str], than: str) -> str:
    return shapes_world.pick(rng, [option for option in options if option != than])


def contradictions(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[str, Scene]]:
    """Scenes that differ from this one in a single said attribute, by the name of the attribute."""
    for k, thing in enumerate(scene.things):
        changes = [("colors", replace(thing, color=other(rng, list(COLORS), thing.color)))]
        changes.append(("shapes", replace(thing, shape=other(rng, list(SHAPES), thing.shape))))
        if thing.size and scene.kind == "single":
            changes.append(("sizes", replace(thing, size=other(rng, list(SIZES), thing.size))))
        for attribute, changed in changes:
            things = (*scene.things[:k], changed, *scene.things[k + 1 :])
            if len({(t.color, t.shape) for t in things}) == len(things):
                yield attribute, replace(scene, things=things)
    if scene.background:
        yield "background", replace(scene, background=other(rng, list(BACKGROUNDS), scene.background))
    if scene.relation:
        for relation in RELATIONS:
            if relation != scene.relation:
                yield "relation", replace(scene, relation=relation)
        yield "relation", replace(scene, things=scene.things[::-1])
        yield "count", Scene(scene.things[:1], background=scene.background)
    elif scene.things[0].size != "large":
        yield "count", replace(scene, count=1 + scene.count % 3)


@pytest.mark.parametrize("size", [32, 64])
def test_a_picture_that_differs_in_one_thing_said_is_never_right(size: int) -> None:
    rng = rng_of(size)
    met = set()
    for index in range(60):
        scene = scene_of(8, index)
        for attribute, different in contradictions(scene, rng):
            verdict = check_picture(draw(different, size, rng), scene)
            assert getattr(verdict, attribute) is False, (scene, different, verdict)
            assert not verdict.all
            met.add(attribute)
    assert met == {"colors", "shapes", "sizes", "background", "relation", "count"}


def agree(one: Scene, another: Scene) -> bool:
    """Whether a single picture could show both scenes."""

    def alike(a: Thing, b: Thing) -> bool:
        return (a.color, a.shape) == (b.color, b.shape) and (a.size == b.size or None in (a.size, b.size))

    if (one.kind, one.count) != (another.kind, another.count):
        return False
    if one.background and another.background and one.background != another.background:
        return False
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above", None: None}
    straight = one.relation == another.relation and all(map(alike, one.things, another.things))
    turned = opposite[one.relation] == another.relation and all(map(alike, one.things, another.things[::-1]))
    return straight or turned


def test_a_picture_of_another_scene_is_never_right() -> None:
    examples = [example(9, index, size=32) for index in range(200)]
    for (_, _, scene), (picture, _, drawn) in zip(examples, examples[1:] + examples[:1], strict=True):
        if not agree(scene, drawn):
            assert not check_picture(picture, scene).all, (scene, drawn)


def test_colors_on_the_wrong_things_are_wrong() -> None:
    said = Scene((Thing("red", "circle"), Thing("blue", "square")), 2, "left")
    verdict = check_picture(
        draw(Scene((Thing("blue", "circle"), Thing("red", "square")), 2, "left"), 32, rng_of(0)), said
    )
    assert verdict.count
    assert not (verdict.colors and verdict.shapes)


def test_two_things_alike_stand_in_no_relation() -> None:
    said = Scene((Thing("red", "circle"), Thing("blue", "square")), 2, "left")
    same = render([Placed(Thing("red", "circle"), 8, 16, 5), Placed(Thing("red", "circle"), 24, 16, 5)], WHITE, 32)
    assert check_picture(same, said).relation is False


def test_one_more_object_fails_the_count_alone() -> None:
    for index in range(12):
        shape = SHAPES[index % 5]
        said = Scene((Thing("green", shape),))
        extra = Placed(Thing("green", shape), 25, 25, 4)
        verdict = check_picture(render([Placed(said.things[0], 10, 10, 5 + index / 4), extra], WHITE, 32), said)
        assert (verdict.count, verdict.shapes, verdict.colors) == (False, True, True)


def test_specks_are_overlooked_up_to_a_sensible_size() -> None:
    picture = render([Placed(Thing("red", "circle"), 12, 12, 5)], WHITE, 32)
    pen = ImageDraw.Draw(picture)
    for x, y in ((27, 5), (25, 20), (3, 28), (20, 28)):
        pen.point((x, y), fill=(40, 60, 90))
    pen.rectangle((28, 28, 29, 29), fill="red")
    assert check_picture(picture, RED_CIRCLE).all
    pen.rectangle((26, 12, 28, 14), fill="red")
    assert check_picture(picture, RED_CIRCLE).count is False


def polygon(num: int, ratio: float = 1.0, turn: float = 0.0) -> list[tuple[float, float]]:
    """A regular polygon of radius 1, or a star of `num` / 2 points where every second corner is at `ratio`."""
    angles = [math.tau * k / num + turn for k in range(num)]
    radii = [ratio if k % 2 else 1.0 for k in range(num)]
    return [(r * math.sin(a), -r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]


NEARLY = {
    "half circle": [(x, y) for x, y in OUTLINES["circle"] if x >= 0],
    "half square": [(max(x, 0.0), y) for x, y in OUTLINES["square"]],
    "half triangle": [(max(x, 0.0), y) for x, y in OUTLINES["triangle"]],
    "half star": [(max(x, 0.0), y) for x, y in OUTLINES["star"]],
    "half cross": [(x, max(y, 0.0)) for x, y in OUTLINES["cross"]],
    "star without an arm": [point for k, point in enumerate(OUTLINES["star"]) if k != 4],
    "cross without an arm": [(max(x, -0.34), y) for x, y in OUTLINES["cross"]],
    "triangle on its head": [(x, -y) for x, y in OUTLINES["triangle"]],
    "triangle on its side": [(y, x) for x, y in OUTLINES["triangle"]],
    "star on its head": [(x, -y) for x, y in OUTLINES["star"]],
    "slanted cross": [((x - y) * 0.71, (x + y) * 0.71) for x, y in OUTLINES["cross"]],
    "star of six": polygon(12, 0.5),
    "long ellipse": [(1.2 * x, 0.8 * y) for x, y in OUTLINES["circle"]],
    "long rectangle": [(1.2 * x, 0.8 * y) for x, y in OUTLINES["square"]],
}


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("radius", [4.0, 5.2, 8.0])
@pytest.mark.parametrize("name", NEARLY)
def test_what_is_nearly_a_shape_is_none(name: str, radius: float, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shapes_draw.OUTLINES, name, tuple(NEARLY[name]))
    view = look(render([Placed(Thing("blue", name), 15.6, 16.3, radius)], WHITE, size))
    assert [seen.shape for seen in view.objects] == [None]
    assert [seen.color for seen in view.objects] == ["blue"]


@pytest.mark.parametrize("radius", [4.0, 5.2, 8.0])
def test_a_blob_is_not_a_star_or_a_cross(radius: float) -> None:
    rng = rng_of(int(10 * radius))
    for _ in range(12):
        picture = render([Placed(Thing("blue", "circle"), 16, 16, radius)], WHITE, 32)
        pen = ImageDraw.Draw(picture)
        for angle in math.tau * rng.random(3):  # bumps
            x, y, r = 16 + radius * math.cos(angle), 16 + radius * math.sin(angle), radius * 0.35
            pen.ellipse((x - r, y - r, x + r, y + r), fill=COLORS["blue"])
        shape = look(picture.filter(ImageFilter.GaussianBlur(0.5))).objects[0].shape
        assert shape in (None, "circle", "square", "triangle")


@pytest.mark.parametrize(
    ("one", "another"), [("red", "orange"), ("blue", "purple"), ("cyan", "blue"), ("pink", "yellow")]
)
@pytest.mark.parametrize("background", BACKGROUNDS.values())
def test_an_object_of_two_colors_has_none(one: str, another: str, background: tuple[int, int, int]) -> None:
    picture = render([Placed(Thing(one, "square"), 16, 16, 6)], background, 32)
    picture.paste(render([Placed(Thing(another, "square"), 16, 16, 6)], background, 32).crop((16, 0, 32, 32)), (16, 0))
    assert [seen.color for seen in look(picture).objects] in ([None], [None, None])


@pytest.mark.parametrize("color", [(128, 128, 128), (255, 255, 0), (0, 0, 0)])
def test_a_plain_picture_shows_nothing(color: tuple[int, int, int]) -> None:
    verdict = check_picture(Image.new("RGB", (32, 32), color), replace(RED_CIRCLE, background="gray"))
    assert (verdict.count, verdict.shapes, verdict.colors) == (False, False, False)
    assert verdict.background is (color == (128, 128, 128))


@settings(deadline=None, max_examples=25)
@given(seeds, st.sampled_from([16, 32, 64]), st.integers(1, 127))
def test_static_is_never_right(seed: int, size: int, spread: int) -> None:
    static = np.random.default_rng(seed).integers(128 - spread, 128 + spread, (3, size, size)).astype(np.uint8)
    for index in range(3):
        assert not check_picture(static, scene_of(0, index)).all


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((3, 32, 32), np.float32),
        np.zeros((3, 32, 48), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((32, 32), np.uint8),
    ],
)
def test_what_is_not_a_square_picture_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError):
        check_picture(picture, RED_CIRCLE)
