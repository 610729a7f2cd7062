"""`tintype explain`: tables, sheet, list and refusals, on a small folder of shapes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tintype.cli.main import main
from tintype.data.sources.exclude import read_exclusions
from tintype.pipeline.image_file import encode
from tintype.pipeline.pipeline import Pipeline
from tintype.shapes.write import write_shapes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with a model, data, a picture that the model made, and one that it did not."""
    folder = tmp_path_factory.mktemp("explain")
    shutil.copytree(tiny_model, folder / "tiny")
    write_shapes(folder / "data", 60, seed=3, size=32)
    pipeline = Pipeline.load(folder / "tiny", "cpu")
    request = pipeline.request("a red circle", seeds=4)
    picture = pipeline.generate("a red circle", seeds=4)[0]
    (folder / "made.png").write_bytes(encode(picture, pipeline.receipts(request)[0], ".png"))
    shutil.copy(next((folder / "data").rglob("*.png")), folder / "plain.png")
    return folder


def explained(place: Path, picture: str, *more: str) -> list[str]:
    data, cache = str(place / "data"), str(place / "cache")
    return ["explain", str(place / picture), "--data", data, "--cache", cache, "--out", str(place / "sheet.png"), *more]


def test_a_picture_of_the_model_has_a_way(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(explained(place, "made.png", "--model", str(place / "tiny"), "--json", "--num", "3")) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["reason"] is None
    assert len(answer["way"]) == len(answer["nearest"]) == 3
    assert 0 < answer["way"][0]["share"] <= 1
    assert answer["training_pictures"] < 60
    with Image.open(place / "sheet.png") as sheet:
        assert sheet.height > 256


def test_a_list_takes_the_first_and_trains_without_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unwanted = place / "unwanted.txt"
    assert main(explained(place, "made.png", "--model", str(place / "tiny"), "--exclude", str(unwanted))) == 0
    out = capsys.readouterr().out
    assert f"--exclude {unwanted}" in out
    keys = read_exclusions(unwanted).keys
    assert keys
    assert all(any(key in line for line in out.splitlines()) for key in keys)


def test_a_plain_picture_is_compared_with_training_pictures_alone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(explained(place, "plain.png")) == 2
    assert "give --model" in capsys.readouterr().err
    assert main(explained(place, "plain.png", "--model", str(place / "tiny"))) == 0
    out = capsys.readouterr().out
    assert "its way is unknown" in out
    assert "resembles most" in out
