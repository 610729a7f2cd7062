"""Sizes of pictures: defaults from the data, starting pictures in their shape, far too large ones, enlargement."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from tintype.config import Config
from tintype.config.sizes import parse_size, parse_sizes
from tintype.errors import ConfigError, DataError
from tintype.pipeline.image_file import encode, read_receipt
from tintype.pipeline.limits import MAX_SIDE
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.receipt import Receipt, options_of
from tintype.pipeline.sizes import enlarged, model_size, parse_enlarge


@pytest.fixture(scope="module")
def pipeline(tiny_model: Path) -> Pipeline:
    return Pipeline.load(tiny_model, "cpu")  # 16 pixels, patches of 4


def with_sizes(config: Config, sizes: str) -> Config:
    return dataclasses.replace(config, sample=dataclasses.replace(config.sample, sizes=sizes))


def picture(width: int, height: int) -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


@pytest.mark.parametrize("text", ["", "0x3", "3", "3x", "3X4", "3x4 ", "-3x4", "٣x4", "100000x1", "3x4\n"])
def test_a_text_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_size(text)


def test_sizes_are_read_in_order_and_bounded() -> None:
    assert parse_sizes("40x24 32x32") == ((40, 24), (32, 32))
    assert parse_sizes("") == ()
    with pytest.raises(ConfigError, match="at most"):
        parse_sizes(" ".join(["8x8"] * 10_000))


@pytest.mark.parametrize("sizes", ["20x16", "18x8", "wide", "16x16  20x12", "2048x2048"])
def test_a_configuration_refuses_sizes_that_no_training_picture_has(sizes: str, pipeline: Pipeline) -> None:
    with pytest.raises(ConfigError):
        with_sizes(pipeline.config, sizes)


def test_the_default_size_is_the_first_and_survives_json(pipeline: Pipeline) -> None:
    assert pipeline.config.default_size == (16, 16)
    config = with_sizes(pipeline.config, "20x12 16x16")
    assert config.default_size == (20, 12)
    assert Config.from_json(config.to_json()) == config


def test_a_model_makes_the_usual_size_of_its_data(pipeline: Pipeline) -> None:
    wide = Pipeline(pipeline.denoiser)
    wide.config = with_sizes(pipeline.config, "20x12 16x16")
    assert wide.generate("a", steps=1)[0].size == (20, 12)
    assert wide.generate("a", steps=1, width=16)[0].size == (16, 12)
    assert "20x12 pixels" in repr(wide)


@pytest.mark.parametrize(("size", "expected"), [((300, 200), (20, 12)), ((200, 300), (12, 20)), ((90, 91), (16, 16))])
def test_a_starting_picture_keeps_its_shape(
    size: tuple[int, int], expected: tuple[int, int], pipeline: Pipeline
) -> None:
    request = pipeline.request("a", init_image=picture(*size))
    assert (request.width, request.height) == model_size(pipeline.config, size) == expected
    assert request.init_image is not None
    assert request.init_image.size == expected


def test_a_missing_side_follows_the_starting_picture(pipeline: Pipeline) -> None:
    wide = picture(300, 100)
    request = pipeline.request("a", init_image=wide, width=24)
    assert (request.width, request.height) == (24, 8)
    request = pipeline.request("a", init_image=wide, height=8)
    assert (request.width, request.height) == (24, 8)
    request = pipeline.request("a", init_image=wide, height=MAX_SIDE)
    assert (request.width, request.height) == (MAX_SIDE, MAX_SIDE)


def test_a_picture_that_a_camera_turned_keeps_the_shape_it_is_seen_in(pipeline: Pipeline) -> None:
    turned = picture(300, 200)
    turned.getexif()[0x0112] = 6  # orientation: a quarter turn
    request = pipeline.request("a", init_image=turned)
    assert (request.width, request.height) == (12, 20)


def test_outpainting_adds_to_the_shape_of_the_starting_picture(pipeline: Pipeline) -> None:
    request = pipeline.request("a", init_image=picture(300, 200), outpaint=[4, 0, 0, 8])
    assert (request.width, request.height) == (24, 20)


def test_what_is_cut_off_a_starting_picture_is_said(pipeline: Pipeline) -> None:
    notes = pipeline.request("a", init_image=picture(300, 100), width=16, height=16).notes
    assert notes == ("67% of the starting picture, 300x100, is cut off left and right to fit 16x16",)
    assert pipeline.request("a", init_image=picture(200, 200)).notes == ()


@pytest.mark.parametrize(("width", "height", "is_large"), [(32, 32, False), (36, 16, True), (16, 64, True)])
def test_beyond_twice_the_trained_side_there_is_a_note(
    width: int, height: int, is_large: bool, pipeline: Pipeline
) -> None:
    notes = pipeline.request("a", width=width, height=height).notes
    assert bool(notes) == is_large
    assert not is_large or "enlarge" in notes[0]


def test_a_size_of_the_training_data_is_never_large(pipeline: Pipeline) -> None:
    long = Pipeline(pipeline.denoiser)
    long.config = with_sizes(pipeline.config, "64x4")
    assert long.request("a").notes == ()


def test_an_enlarged_picture_is_the_models_own_scaled(pipeline: Pipeline) -> None:
    unscaled = pipeline.generate("a", steps=2, seeds=3)[0]
    large = pipeline.generate("a", steps=2, seeds=3, width=100, height=100, enlarge=True)[0]
    assert large.size == (100, 100)
    assert large.tobytes() == unscaled.resize((100, 100), Image.Resampling.LANCZOS).tobytes()


def test_an_enlarged_picture_of_another_shape_is_cut_and_not_stretched(pipeline: Pipeline) -> None:
    unscaled = pipeline.generate("a", steps=2, width=20, height=12)[0]
    large = pipeline.generate("a", steps=2, width=90, height=60, enlarge=True)[0]
    assert large.tobytes() == ImageOps.fit(unscaled, (90, 60), Image.Resampling.LANCZOS).tobytes()


def test_a_missing_side_of_an_enlarged_picture_follows_its_shape(pipeline: Pipeline) -> None:
    assert pipeline.request("a", width=99, enlarge=True).enlarge == "99x99 lanczos"
    request = pipeline.request("a", height=100, enlarge=True, init_image=picture(300, 200))
    assert (request.width, request.height, request.enlarge) == (20, 12, "150x100 lanczos")


@pytest.mark.parametrize("options", [{}, {"width": 4000}, {"width": 0}])
def test_an_enlargement_without_a_possible_size_is_refused(options: dict[str, int], pipeline: Pipeline) -> None:
    with pytest.raises(ConfigError, match="enlarge"):
        pipeline.request("a", enlarge=True, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("enlarge", ["yes", "9999x9999", "64x64 nearest", "64x64 lanczos lanczos", 3])
def test_an_enlargement_of_a_receipt_is_checked(enlarge: str, pipeline: Pipeline) -> None:
    with pytest.raises(ConfigError):
        pipeline.request("a", enlarge=enlarge)


def test_a_receipt_makes_the_enlarged_picture_again(pipeline: Pipeline, tmp_path: Path) -> None:
    request = pipeline.request("a", steps=2, width=90, height=60, enlarge=True)
    picture = pipeline.generate("a", steps=2, width=90, height=60, enlarge=True)[0]
    (tmp_path / "a.png").write_bytes(encode(picture, pipeline.receipts(request)[0], ".png"))
    receipt = read_receipt(tmp_path / "a.png")
    assert (receipt.width, receipt.height, receipt.enlarge) == (20, 12, "90x60 lanczos")
    assert "Size: 20x12" in receipt.parameters()
    assert "Hires resize: 90x60, Hires upscaler: Lanczos" in receipt.parameters()
    assert pipeline.generate("a", **options_of(receipt))[0].tobytes() == picture.tobytes()


def test_other_receipts_are_as_older_versions_read_them(pipeline: Pipeline) -> None:
    receipt = pipeline.receipts(pipeline.request("a"))[0]
    assert "enlarge" not in receipt.to_json()
    assert Receipt.from_json(receipt.to_json()) == receipt
    with pytest.raises(DataError, match="enlarge"):
        Receipt.from_json(receipt.to_json().replace("{", '{"enlarge": 3, ', 1))


def test_no_enlargement_changes_nothing() -> None:
    original = picture(9, 7)
    assert enlarged(original, "") is original
    assert parse_enlarge("9x7") == (9, 7)
