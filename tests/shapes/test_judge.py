"""The checker finds right what is right and wrong what is wrong: measured rates, single contradictions, near shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from tintype.shapes.draw import OUTLINES, SIDE, PlacedObject, draw, render
from tintype.shapes.judge import check_picture, parse_picture
from tintype.shapes.scenes import BACKGROUNDS, COLORS, RELATIONS, SHAPES, SIZES, ObjectSpec, Scene, pick, scene_at
from tintype.shapes.write import example

WHITE = BACKGROUNDS["white"]
RED_CIRCLE = Scene((ObjectSpec("red", "circle"),))


def rng_of(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 0]))


# --- the checker: what is right is found right ----------------------------------------------------------------------


def soften(picture: Image.Image, rng: np.random.Generator, blur: float, noise: float) -> Image.Image:
    """Blur by a Gaussian of `blur` units and add noise of that standard deviation."""
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(blur * picture.width / SIDE)), dtype=float)
    noised = blurred + noise * rng.standard_normal(blurred.shape)
    return Image.fromarray(noised.round().clip(0, 255).astype(np.uint8))


@pytest.mark.slow
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
        PlacedObject(ObjectSpec("green", "star"), 9.3, 8.6, 6.4),
        PlacedObject(ObjectSpec("yellow", "cross"), 24.1, 10.2, 4.0),
        PlacedObject(ObjectSpec("blue", "triangle"), 15.7, 24.4, 5.2),
    ]
    view = parse_picture(render(placed, BACKGROUNDS[background], size))
    assert view.background == background
    assert view.clean
    assert len(view.objects) == 3
    for object_ in placed:
        detected = min(view.objects, key=lambda detected: math.dist((detected.x, detected.y), (object_.x, object_.y)))
        assert (detected.color, detected.shape) == (object_.spec.color, object_.spec.shape)
        assert (detected.x, detected.y) == pytest.approx((object_.x, object_.y), abs=0.15)
        assert detected.radius == pytest.approx(object_.radius, rel=0.05)


def test_a_verdict_speaks_only_of_what_is_said() -> None:
    picture = draw(RED_CIRCLE, 32, rng_of(0))
    verdict = check_picture(picture, RED_CIRCLE)
    assert (verdict.count, verdict.shapes, verdict.colors) == (True, True, True)
    assert (verdict.sizes, verdict.relation, verdict.background) == (None, None, None)
    assert verdict.all
    array = np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))
    assert check_picture(array, RED_CIRCLE) == verdict


def test_one_wording_of_a_picture_is_as_good_as_the_other() -> None:
    one, other = ObjectSpec("red", "circle", "small"), ObjectSpec("blue", "square")
    picture = draw(Scene((one, other), 2, "left"), 32, rng_of(0))
    assert check_picture(picture, Scene((other, one), 2, "right")).all


# --- the checker: what is wrong is found wrong ----------------------------------------------------------------------


def other(rng: np.random.Generator, options: list[str], than: str) -> str:
    return pick(rng, [option for option in options if option != than])


def contradictions(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[str, Scene]]:
    """Scenes that differ from this one in a single said attribute, by the name of the attribute."""
    for k, spec in enumerate(scene.specs):
        changes = [("colors", replace(spec, color=other(rng, list(COLORS), spec.color)))]
        changes.append(("shapes", replace(spec, shape=other(rng, list(SHAPES), spec.shape))))
        if spec.size and scene.kind == "single":
            changes.append(("sizes", replace(spec, size=other(rng, list(SIZES), spec.size))))
        for attribute, changed in changes:
            specs = (*scene.specs[:k], changed, *scene.specs[k + 1 :])
            if len({(t.color, t.shape) for t in specs}) == len(specs):
                yield attribute, replace(scene, specs=specs)
    if scene.background:
        yield "background", replace(scene, background=other(rng, list(BACKGROUNDS), scene.background))
    if scene.relation:
        for relation in RELATIONS:
            if relation != scene.relation:
                yield "relation", replace(scene, relation=relation)
        yield "relation", replace(scene, specs=scene.specs[::-1])
        yield "count", Scene(scene.specs[:1], background=scene.background)
    elif scene.specs[0].size != "large":
        yield "count", replace(scene, count=1 + scene.count % 3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 64])
def test_a_picture_that_differs_in_one_thing_said_is_never_right(size: int) -> None:
    rng = rng_of(size)
    met = set()
    for index in range(2000 // size):
        scene = scene_at(8, index)
        for attribute, different in contradictions(scene, rng):
            verdict = check_picture(draw(different, size, rng), scene)
            assert getattr(verdict, attribute) is False, (scene, different, verdict)
            assert not verdict.all
            met.add(attribute)
    assert met == {"colors", "shapes", "sizes", "background", "relation", "count"}


def agree(one: Scene, another: Scene) -> bool:
    """Whether a single picture could show both scenes."""

    def alike(a: ObjectSpec, b: ObjectSpec) -> bool:
        return (a.color, a.shape) == (b.color, b.shape) and (a.size == b.size or None in (a.size, b.size))

    if (one.kind, one.count) != (another.kind, another.count):
        return False
    if one.background and another.background and one.background != another.background:
        return False
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above", None: None}
    straight = one.relation == another.relation and all(map(alike, one.specs, another.specs))
    turned = opposite[one.relation] == another.relation and all(map(alike, one.specs, another.specs[::-1]))
    return straight or turned


def test_a_picture_of_another_scene_is_never_right() -> None:
    examples = [example(9, index, size=32) for index in range(200)]
    for (_, _, scene), (picture, _, drawn) in zip(examples, examples[1:] + examples[:1], strict=True):
        if not agree(scene, drawn):
            assert not check_picture(picture, scene).all, (scene, drawn)


def test_colors_on_the_wrong_things_are_wrong() -> None:
    captioned = Scene((ObjectSpec("red", "circle"), ObjectSpec("blue", "square")), 2, "left")
    verdict = check_picture(
        draw(Scene((ObjectSpec("blue", "circle"), ObjectSpec("red", "square")), 2, "left"), 32, rng_of(0)), captioned
    )
    assert verdict.count
    assert not (verdict.colors and verdict.shapes)


def test_two_things_alike_stand_in_no_relation() -> None:
    captioned = Scene((ObjectSpec("red", "circle"), ObjectSpec("blue", "square")), 2, "left")
    same = render(
        [PlacedObject(ObjectSpec("red", "circle"), 8, 16, 5), PlacedObject(ObjectSpec("red", "circle"), 24, 16, 5)],
        WHITE,
        32,
    )
    assert check_picture(same, captioned).relation is False


def test_one_more_object_fails_the_count_alone() -> None:
    for index in range(12):
        shape = SHAPES[index % 5]
        captioned = Scene((ObjectSpec("green", shape),))
        extra = PlacedObject(ObjectSpec("green", shape), 25, 25, 4)
        verdict = check_picture(
            render([PlacedObject(captioned.specs[0], 10, 10, 5 + index / 4), extra], WHITE, 32), captioned
        )
        assert (verdict.count, verdict.shapes, verdict.colors) == (False, True, True)


def test_specks_are_overlooked_up_to_a_sensible_size() -> None:
    picture = render([PlacedObject(ObjectSpec("red", "circle"), 12, 12, 5)], WHITE, 32)
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
    monkeypatch.setitem(OUTLINES, name, tuple(NEARLY[name]))
    view = parse_picture(render([PlacedObject(ObjectSpec("blue", name), 15.6, 16.3, radius)], WHITE, size))
    assert [detected.shape for detected in view.objects] == [None]
    assert [detected.color for detected in view.objects] == ["blue"]


@pytest.mark.parametrize("radius", [4.0, 5.2, 8.0])
def test_a_blob_is_not_a_star_or_a_cross(radius: float) -> None:
    rng = rng_of(int(10 * radius))
    for _ in range(12):
        picture = render([PlacedObject(ObjectSpec("blue", "circle"), 16, 16, radius)], WHITE, 32)
        pen = ImageDraw.Draw(picture)
        for angle in math.tau * rng.random(3):  # bumps
            x, y, r = 16 + radius * math.cos(angle), 16 + radius * math.sin(angle), radius * 0.35
            pen.ellipse((x - r, y - r, x + r, y + r), fill=COLORS["blue"])
        shape = parse_picture(picture.filter(ImageFilter.GaussianBlur(0.5))).objects[0].shape
        assert shape in (None, "circle", "square", "triangle")


@pytest.mark.parametrize(
    ("one", "another"), [("red", "orange"), ("blue", "purple"), ("cyan", "blue"), ("pink", "yellow")]
)
@pytest.mark.parametrize("background", BACKGROUNDS.values())
def test_an_object_of_two_colors_has_none(one: str, another: str, background: tuple[int, int, int]) -> None:
    picture = render([PlacedObject(ObjectSpec(one, "square"), 16, 16, 6)], background, 32)
    picture.paste(
        render([PlacedObject(ObjectSpec(another, "square"), 16, 16, 6)], background, 32).crop((16, 0, 32, 32)), (16, 0)
    )
    assert [detected.color for detected in parse_picture(picture).objects] in ([None], [None, None])


@pytest.mark.parametrize("color", [(128, 128, 128), (255, 255, 0), (0, 0, 0)])
def test_a_plain_picture_shows_nothing(color: tuple[int, int, int]) -> None:
    verdict = check_picture(Image.new("RGB", (32, 32), color), replace(RED_CIRCLE, background="gray"))
    assert (verdict.count, verdict.shapes, verdict.colors) == (False, False, False)
    assert verdict.background is (color == (128, 128, 128))


def test_a_patch_of_the_color_around_it_is_no_object() -> None:
    pixels = np.full((3, 32, 32), 255, np.uint8)
    pixels[:, 3:29, 3:29] = np.array(COLORS["pink"])[:, None, None]  # stands out where nothing darker is near
    pixels[:, 3:29:3, 3:29:3] = 0
    pixels[:, 13:20, 13:20] = np.array(COLORS["pink"])[:, None, None]
    view = parse_picture(pixels)
    assert [(detected.color, detected.shape, detected.radius) for detected in view.objects] == [(None, None, 0.0)]
    assert not check_picture(pixels, Scene((ObjectSpec("pink", "square"),))).all


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**63 - 1), st.sampled_from([16, 32, 64]), st.integers(1, 127))
def test_static_is_never_right(seed: int, size: int, spread: int) -> None:
    static = np.random.default_rng(seed).integers(128 - spread, 128 + spread, (3, size, size)).astype(np.uint8)
    for index in range(3):
        assert not check_picture(static, scene_at(0, index)).all


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
