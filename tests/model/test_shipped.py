"""The models that come with the package draw what they are told to, right after installation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tintype.cli.main import main
from tintype.model import store
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.start import request_sigmas
from tintype.shapes.judge import check_picture
from tintype.shapes.scenes import ObjectSpec, Scene

ASKED = {
    "a red circle left of a blue square": Scene(
        (ObjectSpec("red", "circle"), ObjectSpec("blue", "square")), 2, "left", background=None
    ),
    "a small green star above a purple cross": Scene(
        (ObjectSpec("green", "star", "small"), ObjectSpec("purple", "cross")), 2, "above", background=None
    ),
    "three pink triangles on a black background": Scene((ObjectSpec("pink", "triangle"),), 3, background="black"),
    "two yellow squares on white": Scene((ObjectSpec("yellow", "square"),), 2, background="white"),
    "a large cyan cross": Scene((ObjectSpec("cyan", "cross", "large"),)),
}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load("shapes", "cpu")


def test_it_draws_what_it_is_told(pipeline: Pipeline) -> None:
    right = {}
    for index, (caption, scene) in enumerate(ASKED.items()):
        pictures = pipeline.generate([caption] * 2, seeds=[2 * index, 2 * index + 1])
        right[caption] = [check_picture(picture, scene).all for picture in pictures]
    # It is right nine times in ten or more (its card says how often): of ten pictures, hardly ever fewer than seven.
    assert sum(map(sum, right.values())) >= 7, right


@pytest.mark.slow
def test_another_caption_does_not_fit_the_picture(pipeline: Pipeline) -> None:
    pictures = pipeline.generate(list(ASKED), seeds=range(len(ASKED)))
    scenes = list(ASKED.values())
    assert not any(check_picture(picture, scenes[index - 1]).all for index, picture in enumerate(pictures))


@pytest.mark.parametrize("steps", [8, 12, 16, 20])
def test_its_interval_saves_a_quarter_of_what_plain_guidance_asks(pipeline: Pipeline, steps: int) -> None:
    request = pipeline.request("a red circle", steps=steps, guidance=3.0)
    low, high = request.guidance_interval
    levels = request_sigmas(request, pipeline.config.noise)[:-1]
    guided = int(((low <= levels) & (levels <= high)).sum())  # asked for twice: tests/test_pipeline.py counts
    assert steps + guided <= 0.75 * (2 * steps)


def test_the_first_command_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "a slice of pizza", "--model", "emoji"]) == 0
    (path,) = tmp_path.glob("*.png")
    with Image.open(path) as picture:
        slice_ = np.asarray(picture.convert("RGB"), dtype=float)
    red, green, blue = slice_[slice_.min(axis=2) < 160].mean(axis=0)  # of what is not the white ground
    assert picture.size == (64, 64)
    assert red > green + 30 > blue + 60


def test_without_a_name_it_is_shapes_that_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "a red circle left of a blue square"]) == 0
    (path,) = tmp_path.glob("*.png")
    with Image.open(path) as picture:
        assert picture.size == (32, 32)
        assert check_picture(picture.convert("RGB"), ASKED["a red circle left of a blue square"]).all


@pytest.mark.parametrize(
    ("name", "megabytes", "said"),
    [("shapes", 10, ("## Caption accuracy", "held out")), ("emoji", 30, ("## Composing", "held out", "Apache"))],
)
def test_it_is_small_and_its_card_says_how_good_it_is(name: str, megabytes: int, said: tuple[str, ...]) -> None:
    folder = store.shipped()[name]
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= megabytes * 1_000_000
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert [part for part in said if part not in card] == []
    errors = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert len(errors["noise_error"]) >= 3
    for level, error in errors["noise_error"].items():
        assert f"| {level} | {error:.4f} | {errors['noise_error_training'][level]:.4f} |" in card


@pytest.fixture(scope="module")
def emoji() -> Pipeline:
    return Pipeline.load("emoji", "cpu")


def skin(picture: Image.Image) -> float:
    """Mean brightness of the middle, where the face is."""
    return float(np.asarray(picture.convert("L"))[24:48, 24:40].mean())


@pytest.mark.parametrize("who", ["woman firefighter", "man office worker"])
@pytest.mark.slow
def test_emoji_have_the_skin_they_are_told_to(emoji: Pipeline, who: str) -> None:
    tones = ["light", "medium", "dark"]
    pictures = emoji.generate([f"{who} {tone} skin tone" for tone in tones], seeds=[1, 2, 3])
    light, medium, dark = map(skin, pictures)
    assert light > medium > dark


@pytest.mark.slow
@pytest.mark.parametrize("wording", ["{}", "a picture of a {}", "a cute little sticker showing a {}"])
def test_emoji_understand_a_thing_in_other_words(emoji: Pipeline, wording: str) -> None:
    names = ["red apple", "blue heart", "Christmas tree"]
    pictures = emoji.generate([wording.format(name) for name in names], seeds=[1, 2, 3])
    colors = [np.median(np.asarray(picture, dtype=float)[20:44, 20:44].reshape(-1, 3), axis=0) for picture in pictures]
    assert [int(color.argmax()) for color in colors] == [0, 2, 1]


def test_emoji_have_the_colors_of_what_they_show(emoji: Pipeline) -> None:
    heart, face = emoji.generate(["red heart", "slightly smiling face"], seeds=[1, 2])
    for picture, red, green, blue in ((heart, True, False, False), (face, True, True, False)):
        assert picture.size == (64, 64)
        pixels = np.asarray(picture.convert("RGB"))
        assert np.all(pixels[:3, :3] > 200)  # a white ground
        bright = np.median(pixels[16:48, 16:48].reshape(-1, 3), axis=0) > 128
        assert bright.tolist() == [red, green, blue]
