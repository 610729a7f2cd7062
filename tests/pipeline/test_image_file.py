"""Picture files of each format: the picture, and the receipt inside it."""

from __future__ import annotations

import dataclasses
import json
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tintype.errors import DataError
from tintype.pipeline.image_file import ENCODERS, encode, read_receipt, read_texts
from tintype.pipeline.limits import PICTURE_SUFFIXES
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.receipt import Receipt, clean, options_of

PICTURES = Path(__file__).parent / "pictures"  # made by version 0.1.0 before options had their present names
RECEIPT = Receipt(
    caption="a red circle",
    seed=0,
    steps=16,
    guidance=3.0,
    sampler="unipc",
    width=32,
    height=32,
    model="shapes",
    model_hash="0123456789abcdef" * 4,
    version="0.1.0",
)


def noise(width: int = 24, height: int = 16) -> Image.Image:
    return Image.effect_noise((width, height), 90).convert("RGB")


def test_every_picture_suffix_has_an_encoder() -> None:
    assert tuple(ENCODERS) == PICTURE_SUFFIXES


@pytest.mark.parametrize("suffix", [*ENCODERS, ".PNG"])
def test_every_format_carries_both_forms_of_a_receipt(suffix: str, tmp_path: Path) -> None:
    picture, path = noise(), tmp_path / f"a{suffix}"
    path.write_bytes(encode(picture, RECEIPT, suffix))
    assert read_receipt(path) == RECEIPT
    assert read_texts(path)["parameters"] == RECEIPT.parameters()
    with Image.open(path) as opened:
        lossless = opened.format in ("PNG", "WEBP")
        assert (opened.convert("RGB").tobytes() == picture.tobytes()) == lossless
        assert opened.size == picture.size
    path.write_bytes(encode(picture, None, suffix))
    with pytest.raises(DataError, match="carries no Tintype receipt"):
        read_receipt(path)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_less_quality_is_a_smaller_file(suffix: str) -> None:
    picture = noise(64, 64)
    sizes = [len(encode(picture, RECEIPT, suffix, quality)) for quality in (0, 50, 90)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 2


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@given(caption=st.text(st.characters(), max_size=40))
def test_any_caption_comes_back(suffix: str, caption: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(encode(Image.new("RGB", (4, 4)), dataclasses.replace(RECEIPT, caption=caption), suffix))
    assert read_receipt(path).caption == clean(caption)


def test_a_jpeg_keeps_as_much_of_a_receipt_as_it_has_room_for(tmp_path: Path) -> None:
    picture, path = Image.new("RGB", (4, 4)), tmp_path / "a.jpg"
    both, json_only, nothing = (dataclasses.replace(RECEIPT, caption="x" * num) for num in (9_000, 32_000, 70_000))
    path.write_bytes(encode(picture, both, ".jpg"))
    assert set(read_texts(path)) == {"tintype", "parameters"}
    path.write_bytes(encode(picture, json_only, ".jpg"))
    assert set(read_texts(path)) == {"tintype"}
    assert read_receipt(path) == json_only
    path.write_bytes(encode(picture, nothing, ".jpg"))
    assert read_texts(path) == {}
    path.write_bytes(encode(picture, nothing, ".webp"))
    assert read_receipt(path) == nothing


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.slow
def test_a_damaged_file_gives_its_receipt_or_an_error_that_names_it(suffix: str, tmp_path: Path) -> None:
    content, path = encode(noise(4, 4), RECEIPT, suffix), tmp_path / f"odd{suffix}"
    outcomes = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for index in range(0, len(content), 7):
            damaged = bytearray(content)
            damaged[index] ^= 0xFF
            for broken in (bytes(damaged), content[:index]):
                path.write_bytes(broken)
                try:
                    read_receipt(path)
                    outcomes.add("")
                except DataError as error:
                    outcomes.add(str(error))
    assert "" in outcomes
    assert len(outcomes) > 1
    assert [message for message in outcomes if message and f"odd{suffix}" not in message] == []


def test_another_programs_exif_is_no_receipt(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "holiday, 2019"
    buffer = BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "JPEG", exif=exif)
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    assert read_texts(tmp_path / "a.jpg") == {}


# --- PNG --------------------------------------------------------------------------------------------------------------


def saved(path: Path, receipt: Receipt | None) -> Path:
    path.write_bytes(encode(Image.new("RGB", (4, 4), "red"), receipt, ".png"))
    return path


def test_a_picture_carries_both_forms(tmp_path: Path) -> None:
    texts = read_texts(saved(tmp_path / "a.png", RECEIPT))
    assert texts["parameters"] == (
        "a red circle\nSteps: 16, Sampler: unipc, CFG scale: 3, Seed: 0, Size: 32x32, Model hash: 0123456789, "
        "Model: shapes, Version: tintype 0.1.0"
    )
    assert json.loads(texts["tintype"])["caption"] == "a red circle"
    assert read_receipt(tmp_path / "a.png") == RECEIPT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 100_000,
        '{"format": 2}',
        '{"format": 1}',
        json.dumps({**json.loads(RECEIPT.to_json()), "steps": "16"}),
        json.dumps({**json.loads(RECEIPT.to_json()), "steps": True}),
        json.dumps({**json.loads(RECEIPT.to_json()), "guidance": 10**400}),
        json.dumps({**json.loads(RECEIPT.to_json()), "color": "red"}),
        json.dumps({k: v for k, v in json.loads(RECEIPT.to_json()).items() if k != "sampler"}),
    ],
)
def test_a_receipt_that_is_none_is_an_error_that_names_the_picture(text: str, tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("tintype", text)
    Image.new("RGB", (4, 4)).save(tmp_path / "odd.png", pnginfo=info)
    with pytest.raises(DataError, match=r"odd\.png"):
        read_receipt(tmp_path / "odd.png")


def cut_short(path: Path) -> None:
    path.write_bytes(saved(path, RECEIPT).read_bytes()[:40])


def too_much_text(path: Path) -> None:
    info = PngInfo()
    info.add_text("tintype", "x" * (2**21), zip=True)
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("hello"),
        lambda path: Image.new("RGB", (4, 4)).save(path, format="JPEG"),
        lambda path: saved(path, None),
        cut_short,
        too_much_text,
    ],
)
def test_a_file_without_a_receipt_is_an_error_that_names_it(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "file.png")
    with pytest.raises(DataError, match=r"file\.png"):
        read_receipt(tmp_path / "file.png")


# --- pictures of an older version -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shapes() -> Pipeline:
    return Pipeline.load("shapes", "cpu")


@pytest.mark.parametrize(("name", "init_image"), [("options.png", None), ("edit.png", "options.png")])
@pytest.mark.slow
def test_an_older_picture_is_made_again_with_the_same_receipt(
    name: str, init_image: str | None, shapes: Pipeline
) -> None:
    receipt = read_receipt(PICTURES / name)
    source = None if init_image is None else Image.open(PICTURES / init_image)
    request = shapes.request(receipt.caption, **options_of(receipt, source))
    (new_receipt,) = shapes.receipts(request)
    older = dataclasses.replace(receipt, version=new_receipt.version)
    assert new_receipt.to_json() == older.to_json()
    (picture,) = shapes.generate(receipt.caption, **options_of(receipt, source))
    with Image.open(PICTURES / name) as known:
        gaps = [abs(a - b) for a, b in zip(picture.tobytes(), known.tobytes(), strict=True)]
    assert max(gaps) <= 1  # 0 on the machine that made it; another may add in another order
