"""Copy indexes: files that are whole or refused, pictures that turn away from theirs, and receipts that say so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.copies.test_index import scenes

from tintype.copies.index import PictureIndex
from tintype.errors import ConfigError, DataError
from tintype.model.codec import pixels_of
from tintype.model.file_names import COPY_INDEX
from tintype.pipeline.copy_index import CopyIndex
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.receipt import Receipt, options_of


@pytest.fixture(scope="module")
def pipeline(tiny_model: Path) -> Pipeline:
    return Pipeline.load(tiny_model, "cpu")


@pytest.fixture
def index() -> CopyIndex:
    return CopyIndex(PictureIndex.of([scenes(0, 30, 16)]), 0.4, 0.5, 120)


def copied(pipeline: Pipeline) -> CopyIndex:
    """An index in which a picture that the model makes for "a" is a training picture, among others unlike it."""
    made = pixels_of(pipeline.generate("a", seeds=4, steps=3)[0])
    return CopyIndex(PictureIndex.of([torch.cat([made, scenes(0, 30, 16)])]), 0.4, 0.5, 120)


def test_an_index_is_read_as_it_was_written(index: CopyIndex, tmp_path: Path) -> None:
    index.save(tmp_path / COPY_INDEX)
    assert (tmp_path / COPY_INDEX).stat().st_size < 30 * 768 + 500
    again = CopyIndex.load(tmp_path / COPY_INDEX)
    assert torch.equal(again.pictures.thumbnails, index.pictures.thumbnails)
    assert (again.limit, again.target, again.num_held_out, again.sha256) == (0.4, 0.5, 120, index.sha256)


def test_the_hash_is_of_all_that_steers(index: CopyIndex) -> None:
    other = PictureIndex.of([scenes(1, 30, 16)])
    changed = [replace(index, limit=0.41), replace(index, target=0.6), replace(index, pictures=other)]
    assert len({index.sha256, *(one.sha256 for one in changed)}) == 4
    assert replace(index, num_held_out=7).sha256 == index.sha256


def test_a_damaged_or_foreign_file_is_refused_in_one_line(index: CopyIndex, tmp_path: Path) -> None:
    path = tmp_path / COPY_INDEX
    index.save(path)
    whole = path.read_bytes()
    about = {"format": "1", "limit": "0.4", "target": "0.5", "held_out": "9"}
    thumbnails = index.pictures.thumbnails
    for content in (whole[:-9], b"", b"\x00" * 50):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a whole copy index"):
            CopyIndex.load(path)
    for tensors, metadata in (
        ({"thumbnails": thumbnails.float()}, about),
        ({"thumbnails": thumbnails[:, :, :8]}, about),
        ({"thumbnails": thumbnails[:0]}, about),
        ({"thumbnails": thumbnails}, about | {"limit": "nan"}),
        ({"thumbnails": thumbnails}, {"format": "1"}),
        ({"pictures": thumbnails}, about),
    ):
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)
        with pytest.raises(DataError, match="not a whole copy index"):
            CopyIndex.load(path)
    save_file({"thumbnails": thumbnails}, path, metadata=about | {"format": "2"})
    with pytest.raises(DataError, match="another version"):
        CopyIndex.load(path)
    with pytest.raises(DataError, match="--data DATA"):
        CopyIndex.load(tmp_path / "none")


def test_without_an_index_the_error_says_how_to_get_one(pipeline: Pipeline) -> None:
    with pytest.raises(ConfigError, match="--avoid-copies --data DATA"):
        pipeline.request("a", avoid_copies=True)
    with pytest.raises(ConfigError, match="true or false"):
        pipeline.request("a", avoid_copies=1)  # type: ignore[typeddict-item]
    assert not pipeline.request("a", avoid_copies=False).avoid_copies


def test_an_index_beside_the_model_is_found(tiny_model: Path, index: CopyIndex, tmp_path: Path) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    index.save(tmp_path / COPY_INDEX)
    pipeline = Pipeline.load(tmp_path, "cpu")
    request = pipeline.request("a", steps=2, avoid_copies=True)
    assert pipeline.copy_index is not None
    assert pipeline.receipts(request)[0].avoid_copies == index.sha256


def test_a_copy_is_turned_away_and_made_again_from_its_receipt(tiny_model: Path, pipeline: Pipeline) -> None:
    steered = Pipeline.load(tiny_model, "cpu")
    steered.copy_index = copied(pipeline)
    plain = pipeline.generate(["a", "b"], seeds=[4, 9], steps=3)
    request = steered.request(["a", "b"], seeds=[4, 9], steps=3, avoid_copies=True)
    task = steered.sampling_task(request)
    *_, last = task.steps()
    pictures = steered.pictures(last.denoised)
    assert task.num_turned >= 1
    assert pictures[0].tobytes() != plain[0].tobytes()
    nearest = steered.copy_index.pictures.nearest(torch.cat([pixels_of(picture) for picture in pictures]))
    assert bool((nearest.relative > 0.4).all())
    receipt = Receipt.from_json(steered.receipts(request)[0].to_json())
    again = steered.generate(receipt.caption, **options_of(receipt))[0]
    assert again.tobytes() == pictures[0].tobytes()
    assert steered.generate("a", seeds=[4], steps=3)[0].tobytes() == plain[0].tobytes()


def test_a_picture_that_did_not_turn_away_has_the_receipt_of_before(pipeline: Pipeline) -> None:
    receipt = pipeline.receipts(pipeline.request("a", steps=2))[0]
    assert receipt.avoid_copies == ""
    assert "avoid_copies" not in json.loads(receipt.to_json())


def test_a_starting_picture_cannot_be_turned_away_from(pipeline: Pipeline) -> None:
    picture = pipeline.generate("a", steps=1)[0]
    with pytest.raises(ConfigError, match="init_image"):
        pipeline.request("a", init_image=picture, avoid_copies=True)
