"""Pictures from a Python object, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tintype.config import DataConfig
from tintype.data.images.decode import decode_image
from tintype.data.sources.find import data_label, dataset_name, find_pairs
from tintype.data.sources.objects import ObjectItem, list_objects
from tintype.data.sources.pair_list import PairList
from tintype.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE)


def pixels_of(source: Any) -> np.ndarray[Any, Any]:
    return np.asarray(decode_image(source.read()).picture)


@pytest.mark.parametrize("image", [PICTURE, torch.from_numpy(NOISE).permute(2, 0, 1)], ids=["pil", "tensor"])
def test_pictures_come_through_unchanged(image: Any) -> None:
    pairs, problems = find_pairs([(image, "noise"), (image, ("static", "  noise\n", "noise"))])
    assert problems == []
    assert [pair.captions for pair in pairs] == [("noise",), ("static", "noise")]
    assert [pair.key for pair in pairs] == ["item-000000000", "item-000000001"]
    assert all(np.array_equal(pixels_of(pair.source), NOISE) for pair in pairs)


def test_gray_palette_and_transparent_pictures_are_read_as_files_of_them_are() -> None:
    clear = PICTURE.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    for image in (PICTURE.convert("L"), clear, PICTURE.quantize(8), PICTURE.convert("CMYK")):
        buffer = io.BytesIO()
        image.convert("RGB" if image.mode == "CMYK" else image.mode).save(buffer, format="PNG")
        expected = np.asarray(decode_image(buffer.getvalue()).picture)
        assert np.array_equal(pixels_of(list_objects([(image, "a")], DataConfig()).pairs[0].source), expected)
    gray = torch.from_numpy(NOISE[None, :, :, 0].copy())
    assert np.array_equal(
        pixels_of(list_objects([(gray, "a")], DataConfig()).pairs[0].source), NOISE[:, :, :1].repeat(3, axis=2)
    )


def test_the_same_pictures_have_the_same_fingerprint_and_others_another() -> None:
    first, same, other = (
        list_objects([(image, "a")], DataConfig()).pairs[0].source.fingerprint
        for image in (PICTURE, PICTURE.copy(), PICTURE.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    )
    assert first == same != other


def test_a_source_survives_a_pair_list() -> None:
    pairs = PairList(list_objects([(PICTURE, "a"), (PICTURE, "b")], DataConfig()).pairs)
    source = pairs[1].source
    assert isinstance(source, ObjectItem)
    assert source.index == 1
    assert np.array_equal(pixels_of(source), NOISE)


def test_without_a_caption_the_setting_decides() -> None:
    data = [(PICTURE, " "), (PICTURE, "a")]
    skipped = list_objects(data, DataConfig())
    assert [pair.captions for pair in skipped.pairs] == [("a",)]
    assert [problem.path for problem in skipped.problems] == ["item-000000000"]
    assert [pair.captions for pair in list_objects(data, DataConfig(no_caption="empty")).pairs] == [("",), ("a",)]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (PICTURE, r"data\[0\] is not \(picture, caption\): TypeError"),
        ((PICTURE, 3), r"data\[0\]"),
        ((PICTURE, [3]), r"data\[0\]: the caption must be a text or several"),
        (("a.png", "a"), r"data\[0\]: the picture must be a PIL image or a uint8 tensor \[3, H, W\], not str"),
        ((torch.zeros(3, 4, 4), "a"), r"not a tensor float32 \[3, 4, 4\]"),
        ((torch.zeros(4, 4, 3, dtype=torch.uint8), "a"), r"not a tensor uint8 \[4, 4, 3\]"),
    ],
)
def test_an_item_that_is_no_pair_is_named(item: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_objects([item], DataConfig())


def test_a_picture_that_changes_is_refused() -> None:
    class Random:
        calls = 0

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> tuple[Image.Image, str]:
            self.calls += 1
            return Image.new("RGB", (8, 8), (self.calls, 0, 0)), "a"

    source = list_objects(Random(), DataConfig()).pairs[0].source
    with pytest.raises(DataError, match="the same index must give the same picture"):
        source.read()


def test_messages_name_the_class() -> None:
    with pytest.raises(DataError, match=r"data \(list\) holds no captioned pictures"):
        find_pairs([])
    assert dataset_name([]) == "list"
    assert data_label("photos") == "photos"
