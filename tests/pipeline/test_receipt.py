"""What made a picture, inside the picture."""

from __future__ import annotations

import dataclasses
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tintype.errors import DataError
from tintype.pipeline.image_file import encode, read_receipt, read_texts
from tintype.pipeline.receipt import Receipt, clean

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


def test_the_common_form_tells_of_negative_text_index_and_strength() -> None:
    receipt = dataclasses.replace(RECEIPT, negative="blue", index=2, init_image="ab", strength=0.4, model="a, b: c")
    lines = receipt.parameters().splitlines()
    assert lines[1] == "Negative prompt: blue"
    assert 'Model: "a, b: c", Index: 2, Denoising strength: 0.4' in lines[2]


texts = st.text(st.characters(), max_size=40)  # lone surrogates, control characters and all


@given(caption=texts, negative=texts, seed=st.integers(0, 2**63 - 1), guidance=st.floats(0, 100))
def test_any_text_and_number_comes_back(caption: str, negative: str, seed: int, guidance: float) -> None:
    receipt = dataclasses.replace(RECEIPT, caption=caption, negative=negative, seed=seed, guidance=guidance)
    with Image.open(BytesIO(encode(Image.new("RGB", (1, 1)), receipt, ".png"))) as picture:
        found = Receipt.from_json(picture.info["tintype"])
        assert picture.info["parameters"] == receipt.parameters()
    assert found == dataclasses.replace(receipt, caption=clean(caption), negative=clean(negative))


def test_what_no_file_can_hold_is_left_out() -> None:
    assert clean("a\udc80b\0c 東京 🎨") == "abc 東京 🎨"


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
