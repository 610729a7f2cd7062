"""Examples and data folders of the shapes world: known answers, properties, faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tintype.errors import DataError
from tintype.shapes.captions import captioned_scenes
from tintype.shapes.scenes import (
    scene_at,
)
from tintype.shapes.write import example, write_shapes

seeds = st.integers(0, 2**63 - 1)
indices = st.integers(0, 2**40)
splits = st.sampled_from(["train", "held_out"])


def test_the_world_of_a_seed_never_changes() -> None:
    assert [caption for caption, _ in captioned_scenes(4, seed=0)] == [
        "a drawing of a cyan square, background: white",
        "a picture of a big cyan triangle with a green star below it",
        "a purple star on the left of a tiny purple square on a gray background",
        "on a black background, an image of two red circles",
    ]


@settings(deadline=None, max_examples=30)
@given(seeds, indices, splits)
def test_an_example_is_a_pure_function_of_seed_and_index(seed: int, index: int, split: str) -> None:
    first, again = example(seed, index, split, 32), example(seed, index, split, 32)
    assert (first.caption, first.scene, first.picture.tobytes()) == (
        again.caption,
        again.scene,
        again.picture.tobytes(),
    )
    assert first.picture.size == (32, 32)
    assert first.picture.mode == "RGB"


def test_seeds_and_indices_give_different_worlds() -> None:
    def pictures(seed: int, start: int) -> set[bytes]:
        return {example(seed, start + k, size=32).picture.tobytes() for k in range(40)}

    assert not pictures(0, 0) & pictures(1, 0)
    assert not pictures(0, 0) & pictures(0, 40)
    assert pictures(-1, 0) == pictures(2**64 - 1, 0)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="held_out"):
        scene_at(0, 0, "test")


def test_a_world_is_written_as_an_ordinary_data_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "shapes"
    write_shapes(folder, 5, seed=2, size=32)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["file_name"] for row in rows] == [f"images/{k:06d}.png" for k in range(5)]
    assert sorted(path.name for path in folder.iterdir()) == ["images", "metadata.jsonl", "shapes.json"]
    for index, row in enumerate(rows):
        wanted = example(2, index, "train", 32)
        assert row["text"] == wanted.caption
        with Image.open(folder / row["file_name"]) as picture:
            assert picture.tobytes() == wanted.picture.tobytes()


def test_the_folder_is_read_as_captioned_pictures(tmp_path: Path) -> None:
    sources = pytest.importorskip("tintype.data.sources.find")
    write_shapes(tmp_path, 3, size=16)
    pairs, problems = sources.find_pairs(tmp_path)
    assert [pair.key for pair in pairs] == [f"images/{k:06d}.png" for k in range(3)]
    assert [(problem.path, problem.left_out) for problem in problems] == [("shapes.json", False)]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(DataError, match="empty"):
        write_shapes(tmp_path, 1)
    with pytest.raises(DataError, match="empty"):
        write_shapes(tmp_path / "holiday.jpg", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_nothing_is_not_a_world(tmp_path: Path) -> None:
    for num, size in ((0, 64), (-1, 64), (1, 0)):
        with pytest.raises(DataError, match="at least one"):
            write_shapes(tmp_path / "new", num, size=size)
    assert not (tmp_path / "new").exists()


def test_half_a_folder_is_not_taken_for_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Image.Image.save

    def full_disk(picture: Image.Image, path: Path, **options: int) -> None:
        if "000003" in path.name:
            raise OSError(28, "No space left on device")
        save(picture, path, **options)

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(DataError, match="No space left"):
        write_shapes(tmp_path / "new", 9, size=16)
    assert not (tmp_path / "new" / "metadata.jsonl").exists()
