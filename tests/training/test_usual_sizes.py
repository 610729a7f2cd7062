"""Usual sizes: a run records the shapes of its pictures, and its samples and those of its model have them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from tintype.cli.main import main
from tintype.config import Config, DataOptions
from tintype.pipeline.pipeline import Pipeline
from tintype.training.monitor.sample_grid import LABEL, MARGIN
from tintype.training.run import TrainRequest, train

pytestmark = pytest.mark.usefixtures("tiny_nano")

WIDE, TALL, SQUARE = (90, 60), (60, 90), (60, 60)
NUM = {WIDE: 8, TALL: 4, SQUARE: 1}  # pictures; less than a tenth of them is square


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    sizes = [size for size, num in NUM.items() for _ in range(num)]
    for index, size in enumerate(sizes):
        Image.new("RGB", size, (19 * index, 90, 255 - 19 * index)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"shade number {index}", encoding="utf-8")
    options = DataOptions(crop="none")
    request = TrainRequest(
        data=folder, out=tmp_path / "run", images=8, resolution=20, device="cpu", data_options=options
    )
    train(request, Console(file=io.StringIO()))
    return request.out


def test_the_model_and_its_samples_have_the_sizes_of_the_data(run: Path, tmp_path: Path) -> None:
    config = Config.from_json((run / "config.json").read_text(encoding="utf-8"))
    assert config.sample.sizes == "24x16 16x24"  # at most 25 patches of 4 x 4 pixels; the most usual size first
    columns = rows = 4  # of 13 captions
    with Image.open(next((run / "samples").glob("*.png"))) as sheet:
        assert sheet.width == columns * (5 * 24 + MARGIN) + MARGIN
        assert sheet.height == rows * (5 * 16 + LABEL + MARGIN) + MARGIN
    assert Pipeline.load(run, "cpu").generate(["a shade"])[0].size == (24, 16)
    main(["generate", "a shade", "--model", str(run), "--out", str(tmp_path / "shade.png"), "--device", "cpu"])
    with Image.open(tmp_path / "shade.png") as picture:
        assert picture.size == (24, 16)
