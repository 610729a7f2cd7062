"""Captions from the names of files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.sources.test_recognized import encoded, folder_of, tar_of, zip_of

from tintype.config import Config, DataConfig
from tintype.data.sources.find import find_pairs
from tintype.data.sources.names import UNUSED, caption_by_name, says_nothing
from tintype.errors import DataError


@pytest.mark.parametrize(
    ("key", "file", "folder", "path"),
    [
        ("dogs/poodle/001.jpg", "", "poodle", "dogs poodle"),
        ("dogs/poodle_12.jpg", "poodle", "dogs", "dogs poodle"),
        ("dogs/poodle/white-poodle3 (2).jpg", "white poodle", "poodle", "dogs poodle white poodle"),
        ("Dogs/dogs_7.png", "dogs", "Dogs", "dogs"),
        ("10_sks dog/IMG_0340.png", "", "sks dog", "sks dog"),
        ("dogs/2023/20230104_1733.jpg", "", "dogs", "dogs"),
        ("001.Black_footed_Albatross/x1.jpg", "", "Black footed Albatross", "Black footed Albatross"),
        ("red_car.v1.2.png", "red car.v1.2", "", "red car.v1.2"),
        ("my cat copy 2.png", "my cat", "", "my cat"),
        ("猫/狗.png", "狗", "猫", "猫 狗"),
        ("shapes.zip/dogs/red.png", "red", "dogs", "dogs red"),
        ("shapes.zip/red.png", "red", "shapes", "red"),
        ("mp3 player", "mp3 player", "", "mp3 player"),
    ],
)
def test_words_of_names(key: str, file: str, folder: str, path: str) -> None:
    assert [caption_by_name(source, key) for source in ("file", "folder", "path")] == [file, folder, path]


@pytest.mark.parametrize(
    "text",
    [
        *("IMG_0340", "DSC01234", "20230104_1733", "P1010234", "_MG_0012", "PXL_20230104_173312", "1234", "a", ""),
        *("d41d8cd98f00b204e9800998ecf8427e", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "dQw4w9WgXcQ", "photo 12"),
        *("Screenshot 2023-01-04 at 17.33.12", "WhatsApp Image 2023-01-04", "IMG-20230104-WA0001", "untitled(3)"),
    ],
)
def test_names_that_say_nothing(text: str) -> None:
    assert says_nothing(text)


@pytest.mark.parametrize("text", ["cat", "a red circle", "3 cats", "🍎", "猫", "ein Käfer", "poodle12", "4k video"])
def test_names_that_say_something(text: str) -> None:
    assert not says_nothing(text)


@pytest.mark.parametrize(("store", "prefix"), [(folder_of, ""), (zip_of, "pets.zip/"), (tar_of, "pets.tar/")])
def test_captions_are_taken_from_names_in_folders_and_archives(tmp_path: Path, store, prefix: str) -> None:
    members = {
        "dogs/white_poodle/0001.png": encoded("PNG"),
        "dogs/white_poodle/0001.txt": b"not this caption",
        "dogs/big terrier 7.png": encoded("PNG"),
        "IMG_0001.png": encoded("PNG"),
    }
    data = store(members, tmp_path / (prefix.rstrip("/") or "pets"))

    def captions(**options: str) -> dict[str, tuple[str, ...]]:
        pairs, problems = find_pairs(data, DataConfig(**options))
        assert (f"{prefix}dogs/white_poodle/0001.txt", UNUSED) in {(p.path, p.reason) for p in problems}
        return {pair.key.removeprefix(prefix): pair.captions for pair in pairs}

    first, second, third = (name for name in members if name.endswith("png"))
    assert captions(caption_from="file") == {second: ("big terrier",)}
    assert captions(caption_from="path") == {first: ("dogs white poodle",), second: ("dogs big terrier",)}
    from_folders = captions(caption_from="folder")
    assert from_folders == {first: ("white poodle",), second: ("dogs",), third: ("pets",)}
    assert captions(caption_from="file", no_caption="empty")[third] == ("",)
    assert captions(caption_from="file", no_caption="name")[third] == ("IMG 0001",)


def test_without_captions_the_options_are_named_that_would_help(tmp_path: Path) -> None:
    members = {f"dogs/{kind}/{number:04}.png": encoded("PNG") for kind in ("poodle", "terrier") for number in range(3)}
    for store, name in ((folder_of, "data"), (zip_of, "x.zip"), (tar_of, "x.tar")):
        with pytest.raises(DataError) as error:
            find_pairs(store(members, tmp_path / name))
        assert "--no-caption name takes the file names as captions" in str(error.value)
        assert "--caption-from folder the names of the folders ('poodle')" in str(error.value)
        assert "--caption-from path the words in the paths ('dogs poodle')" in str(error.value)
        assert "--caption-from file" not in str(error.value)


def test_names_without_words_are_an_error_in_words(tmp_path: Path) -> None:
    data = folder_of({"IMG_0340.png": encoded("PNG"), "a.txt": b"x"}, tmp_path / "data")
    with pytest.raises(DataError, match=r"have no words for captions; first problem: IMG_0340\.png: its name has no"):
        find_pairs(data, DataConfig(caption_from="file"))


def test_the_setting_is_stored_and_older_runs_load_and_keep_their_caches() -> None:
    stored = Config(data=DataConfig(caption_from="path")).to_json()
    assert Config.from_json(stored).data.caption_from == "path"
    older = stored.replace('"caption_from": "path",', "")
    assert Config.from_json(older).data == DataConfig()
    assert repr(DataConfig(caption_from="path")) == repr(DataConfig())
