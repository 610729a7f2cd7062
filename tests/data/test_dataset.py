"""A data set as training would see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tintype.config import DataConfig
from tintype.data.dataset import load_dataset
from tintype.data.images.decode import examine, preprocess_for
from tintype.data.sources.find import find_pairs
from tintype.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, size in enumerate([(64, 64), (96, 48), (8, 8)]):
        Image.effect_noise(size, 50).convert("RGB").save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text(f"noise {index}\nmore noise", encoding="utf-8")
    Image.new("RGB", (64, 64)).save(tmp_path / "lonely.png")
    return tmp_path


def test_items_are_the_pictures_and_captions_of_training(folder: Path) -> None:
    dataset = load_dataset(folder, resolution=32)
    assert len(dataset) == 3
    assert dataset.keys == ["0.png", "1.png", "2.png"]
    assert dataset.captions[1] == ("noise 1", "more noise")
    assert [(problem.path, problem.left_out) for problem in dataset.problems] == [("lonely.png", True)]
    assert dataset[0][0].size == (32, 32)
    image, captions = dataset[1]
    pairs, _ = find_pairs(folder)
    pixels = examine(pairs[1].source, preprocess_for(32, DataConfig(crop="none"))).pixels
    assert pixels is not None
    assert image.width > image.height
    assert np.array_equal(np.asarray(image), pixels.transpose(1, 2, 0))
    assert captions == ("noise 1", "more noise")
    assert [pair[1] for pair in dataset[:2]] == [dataset.captions[0], dataset.captions[1]]


def test_a_picture_that_cannot_be_used_says_why(folder: Path) -> None:
    with pytest.raises(DataError, match=r"2\.png: smaller than half"):
        load_dataset(folder, resolution=32)[2]
    assert [reason for reason, _ in load_dataset(folder, resolution=32).check().by_reason()]


def test_options_and_objects(folder: Path) -> None:
    assert load_dataset(folder, 32, DataConfig(no_caption="name")).captions[-1] == ("lonely",)
    assert load_dataset(folder, 32, DataConfig(crop="square"))[1][0].size == (32, 32)
    dataset = load_dataset([(Image.new("RGB", (64, 64)), "black")], 32)
    assert dataset[0][1] == ("black",)
    assert load_dataset(dataset, 32)[0][0].size == (32, 32)  # a data set is an object like any other
