"""Folders named `10_name`: how often their pictures are shown, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tests.data.sources.test_recognized import folder_of, tar_of, zip_of

from tintype.config import Config, DataConfig
from tintype.data.check.run import check_data
from tintype.data.sources.find import find_pairs
from tintype.data.sources.repeats import APPLIED, COUNTED, IGNORED, repeats_and_words

NEW = DataConfig.of_new_runs()


def pictures(folder: Path, *names: str) -> dict[str, bytes]:
    """The content of files by name: pictures, each with a caption."""
    Image.new("RGB", (40, 40), "red").save(folder / "one.png")
    content = (folder / "one.png").read_bytes()
    return dict.fromkeys(names, content) | {f"{name.removesuffix('.png')}.txt": b"a caption" for name in names}


def weights(data: Path, options: DataConfig = NEW) -> dict[str, float]:
    return {pair.key: pair.weight for pair in find_pairs(data, options)[0]}


def remarks(data: Path, options: DataConfig = NEW) -> dict[str, str]:
    return {problem.path: problem.reason for problem in find_pairs(data, options)[1]}


@pytest.mark.parametrize(("store", "prefix"), [(folder_of, ""), (zip_of, "x.zip/"), (tar_of, "x.tar/")])
def test_the_leading_number_is_a_weight_and_this_is_said(tmp_path: Path, store, prefix: str) -> None:
    names = ("10_sks dog/a.png", "3_dog/b.png", "3_dog/deep/c.png", "other/d.png", "e.png")
    data = store(pictures(tmp_path, *names), tmp_path / (prefix.rstrip("/") or "data"))
    assert weights(data) == {prefix + name: w for name, w in zip(names, (10, 3, 3, 1, 1), strict=True)}
    assert remarks(data) == {f"{prefix}10_sks dog": APPLIED, f"{prefix}3_dog": APPLIED}
    assert set(weights(data, DataConfig()).values()) == {1.0}  # as runs of older versions, which resume unchanged
    assert remarks(data, DataConfig()) == {f"{prefix}10_sks dog": IGNORED, f"{prefix}3_dog": IGNORED}
    assert any("2 x a folder whose leading number is how often an epoch" in line for line in check_data(data).lines())


@pytest.mark.parametrize(
    ("name", "repeats"),
    [
        ("10_sks dog", 10),
        ("1_dog", 1),
        ("200_name", 200),
        ("2_3_cats", 2),
        ("5_猫", 5),
        ("2023_summer", 0),
        ("010_cat", 0),
        ("0_cat", 0),
        ("10", 0),
        ("10_", 0),
        ("10_20", 0),
        ("10-cat", 0),
        ("cat_10", 0),
        ("101_PANA", 0),
        ("10_cat.tar", 0),
    ],
)
def test_only_a_small_number_before_words_means_repeats(name: str, repeats: int) -> None:
    assert repeats_and_words(name) == (repeats, name.partition("_")[2] if repeats else name)


def test_folders_that_count_up_are_classes_and_no_repeats(tmp_path: Path) -> None:
    data = folder_of(pictures(tmp_path, "1_cat/a.png", "2_dog/b.png", "3_bird/c.png"), tmp_path / "data")
    assert set(weights(data).values()) == {1.0}
    assert set(remarks(data).values()) == {COUNTED}


def test_weights_of_a_list_and_of_folders_multiply(tmp_path: Path) -> None:
    folder_of(pictures(tmp_path, "10_cat/a.png", "b.png"), tmp_path / "mine")
    folder_of(pictures(tmp_path, "c.png"), tmp_path / "7_dog")
    (tmp_path / "list.txt").write_text("mine weight=2\n7_dog weight=0.5\n")
    by_key = weights(tmp_path / "list.txt")
    assert by_key == {"mine/10_cat/a.png": 20.0, "mine/b.png": 2.0, "7_dog/c.png": 0.5}


def test_the_words_after_the_number_are_the_caption_of_pictures_without_one(tmp_path: Path) -> None:
    members = pictures(tmp_path, "10_sks_dog/a.png", "v1.2 red-hat.png")
    data = folder_of({name: members[name] for name in members if name.endswith("png")}, tmp_path / "data")
    named = {pair.key: pair.captions for pair in find_pairs(data, DataConfig(no_caption="name", repeats="folder"))[0]}
    assert named == {"10_sks_dog/a.png": ("sks dog",), "v1.2 red-hat.png": ("v1.2 red hat",)}
    named = {pair.key: pair.captions for pair in find_pairs(data, DataConfig(no_caption="name"))[0]}
    assert named["10_sks_dog/a.png"] == ("a",)


def test_caches_of_older_versions_stay_valid_and_new_runs_apply_repeats() -> None:
    assert "repeats" not in repr(NEW)
    assert Config.from_preset("nano").data == NEW
    assert Config.from_json(Config().to_json()).data.repeats == "ignore"
