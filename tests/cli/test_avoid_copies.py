"""`tintype generate --avoid-copies`: the index from DATA or beside the model, what is said of it, and redo."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.copies.test_index import scenes

from tintype.cli.main import main
from tintype.model.file_names import COPY_INDEX
from tintype.pipeline.image_file import read_receipt

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, tmp_path / "tiny")
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(scenes(0, 24, 16).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(picture).save(tmp_path / f"pictures/{number}.png")
        (tmp_path / f"pictures/{number}.txt").write_text(f"a red circle {number}")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.mark.slow
def test_the_index_is_made_once_and_then_travels_with_the_model(run: Run, tmp_path: Path) -> None:
    start = ("generate", "a star", "--model", "tiny", "--steps", "2", "--avoid-copies")
    code, _, err = run(*start)
    assert code == 2
    assert "--data DATA" in err
    code, _, err = run(*start, "--data", "pictures", "--output", "x.png")
    assert code == 0
    assert "turned away from training pictures in 0 of 1 pictures" in err
    assert COPY_INDEX in err
    code, _, err = run(*start, "--output", "y.png")
    assert (code, COPY_INDEX in err) == (0, False)
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()
    assert run("redo", "x.png", "--output", "z.png")[0] == 0
    assert (tmp_path / "z.png").read_bytes() == (tmp_path / "x.png").read_bytes()
    assert read_receipt(tmp_path / "z.png").avoid_copies
    (tmp_path / "tiny" / COPY_INDEX).unlink()
    code, _, err = run("redo", "x.png", "--output", "z.png")
    assert code == 2
    assert "--data DATA" in err


def test_what_makes_no_sense_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    start = ("generate", "a star", "--model", "tiny", "--steps", "2")
    code, _, err = run(*start, "--data", "pictures")
    assert code == 2
    assert "--avoid-copies" in err
    for number in range(6, 24):
        (tmp_path / f"pictures/{number}.png").unlink()
    code, _, err = run(*start, "--data", "pictures", "--avoid-copies")
    assert code == 2
    assert "too few" in err
