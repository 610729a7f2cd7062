"""What made a picture, inside the picture."""

from __future__ import annotations

import dataclasses
from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tintype.pipeline.image_file import encode
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.receipt import Receipt, clean, options_of, receipts_of
from tintype.pipeline.request import Options, PlainOptions

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
        restored = Receipt.from_json(picture.info["tintype"])
        assert picture.info["parameters"] == receipt.parameters()
    assert restored == dataclasses.replace(receipt, caption=clean(caption), negative=clean(negative))


def test_what_no_file_can_hold_is_left_out() -> None:
    assert clean("a\udc80b\0c 東京 🎨") == "abc 東京 🎨"


def test_plain_options_are_options_that_receipts_store_and_restore() -> None:
    request = Pipeline.load("shapes").request("a red circle", steps=3, width=40, height=24, center=0.9, spread=1.3)
    receipt = receipts_of(request, ("shapes", "0"))[0]
    options = options_of(Receipt.from_json(receipt.to_json()))
    names = {entry.name for entry in dataclasses.fields(PlainOptions)}
    assert names <= set(Options.__annotations__)
    assert {name: options.get(name) for name in names} == {name: getattr(request, name) for name in names}
    assert (options.get("steps"), options.get("width"), options.get("center")) == (3, 40, 0.9)
