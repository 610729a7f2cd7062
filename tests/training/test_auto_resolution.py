"""The automatic resolution follows the pictures and the time."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from tintype.cli.main import main
from tintype.config import DataConfig
from tintype.data.sources.find import find_pairs
from tintype.data.sources.pairs import Pair
from tintype.errors import ConfigError, DataError
from tintype.training.parallel.world import World
from tintype.training.setup import auto_resolution as module
from tintype.training.setup.auto_resolution import auto_resolution, picture_side
from tintype.training.setup.choices import with_resolution
from tintype.training.setup.plan import MIN_IMAGES
from tintype.training.setup.request import TrainRequest

CPU = torch.device("cpu")


def folder(path: Path, *sizes: tuple[int, int]) -> list[Pair]:
    for number, size in enumerate(sizes):
        Image.new("RGB", size, (number, 0, 0)).save(path / f"{number}.png")
        (path / f"{number}.txt").write_text(f"picture {number}")
    return find_pairs(path, DataConfig())[0]


def test_three_quarters_of_the_pictures_are_as_large(tmp_path: Path) -> None:
    pairs = folder(tmp_path, (10, 10), (64, 64), (128, 32), (200, 50), (300, 300), (100, 100), (64, 81), (900, 10))
    assert picture_side(pairs, DataConfig()) == 64


@pytest.mark.parametrize(
    ("size", "expected"), [((128, 128), 128), ((104, 160), 128), ((110, 110), 64), ((40, 20), 32), ((1000, 900), 256)]
)
def test_without_a_time_the_pictures_decide(tmp_path: Path, size: tuple[int, int], expected: int) -> None:
    resolution, reason = auto_resolution(folder(tmp_path, size, size), DataConfig(), CPU)
    assert resolution == expected
    assert "pixels a side" in reason


@pytest.mark.parametrize(("minutes", "expected"), [(1000.0, 256), (90.0, 128), (20.0, 64), (0.1, 32)])
def test_the_largest_that_sees_enough_in_the_time_is_taken(
    monkeypatch: pytest.MonkeyPatch, minutes: float, expected: int
) -> None:
    hours = {256: 2.0, 128: 1.0, 64: 0.25}
    monkeypatch.setattr(
        module,
        "measure_preset",
        lambda config, device, bf16: (MIN_IMAGES / (3600 * hours[config.net.resolution]), 1),
    )
    monkeypatch.setattr(module, "bf16_is_faster", lambda device: False)
    monkeypatch.setattr(module, "picture_side", lambda pairs, options: 300.0)
    pairs: list[Pair] = []
    resolution, reason = auto_resolution(pairs, DataConfig(), CPU, minutes=minutes)
    assert resolution == expected
    assert ("256 would take 2 h 00 min at least" in reason) == (expected != 256)
    halved, _ = auto_resolution(pairs, DataConfig(), CPU, minutes=minutes / 2, num_processes=2)
    assert halved == expected


def test_unreadable_pictures_are_an_error(tmp_path: Path) -> None:
    pairs = folder(tmp_path, (8, 8))
    (tmp_path / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of the pictures can be read"):
        picture_side(pairs, DataConfig())


def test_the_choice_is_said_and_a_stored_run_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    folder(tmp_path / "data", (70, 70))
    request = TrainRequest(data=tmp_path / "data", out=tmp_path / "run", auto_resolution=True)
    said = io.StringIO()
    assert with_resolution(request, CPU, World(), Console(file=said)).resolution == 64
    assert "resolution: 64 pixels; the pictures have about 70 pixels a side" in said.getvalue()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    assert with_resolution(request, CPU, World(), Console(file=said)).resolution is None


def test_a_model_to_start_from_has_a_resolution(tmp_path: Path) -> None:
    request = TrainRequest(data=tmp_path, out=tmp_path / "run", auto_resolution=True, from_model="shapes")
    with pytest.raises(ConfigError, match="auto is for new models"):
        with_resolution(request, CPU, World(), Console())


def test_the_option_takes_a_number_or_auto(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path), "--out", str(tmp_path / "run"), "--resolution", "big"]) == 2
    assert "must be a whole number" in capsys.readouterr().err
