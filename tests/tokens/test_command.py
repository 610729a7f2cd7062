"""The command line with a token model: it draws, redoes and describes; other commands say what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tintype.cli.main import main
from tintype.data.images.decode import read_picture
from tintype.pipeline.image_file import read_texts
from tintype.tokens.receipt import TokenReceipt


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_generate_writes_pictures_with_receipts_and_redo_repeats_them(
    tiny_token_folder: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(tiny_token_folder), "--seed", "4", "-n", "2", "--temperature", "0.8", "--top-k", "9"]
    assert main(["generate", "a red circle", *options]) == 0
    assert capsys.readouterr().out.split() == [
        *("a-red-circle-s4-0.png", "seed", "4", "index", "0"),
        *("a-red-circle-s4-1.png", "seed", "4", "index", "1"),
    ]
    second = here / "a-red-circle-s4-1.png"
    receipt = TokenReceipt.from_json(read_texts(second)["tintype"])
    assert receipt is not None
    assert (receipt.caption, receipt.seed, receipt.index, receipt.top_k) == ("a red circle", 4, 1, 9)
    assert main(["redo", str(second), "--model", str(tiny_token_folder), "--output", "again.png"]) == 0
    assert read_picture(Path("again.png")).tobytes() == read_picture(second).tobytes()
    assert main(["info", str(second)]) == 0
    assert "temperature 0.8, top k 9" in capsys.readouterr().out


def test_info_describes_a_token_model(tiny_token_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tiny_token_folder)]) == 0
    assert "8x8, 16 tokens of 2x2" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--steps", "4"], ["--init-image", "x.png"], ["--negative-prompt", "x"]])
def test_options_of_diffusion_are_refused(
    tiny_token_folder: Path, here: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "a", "--model", str(tiny_token_folder), *options]) == 2
    assert f"{options[0]} means nothing to it" in capsys.readouterr().err


def test_options_of_writing_are_refused_by_diffusion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a", "--temperature", "0.5"]) == 2
    assert "--temperature is of models that write token by token" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["evaluate", "MODEL"], ["export", "MODEL", "--out", "x"], ["train", "data", "--from", "MODEL", "--out", "x"]],
)
def test_commands_for_diffusion_say_what_a_token_model_is(
    tiny_token_folder: Path, here: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_token_folder) if argument == "MODEL" else argument for argument in arguments]) == 1
    assert "writes pictures token by token and has no noise levels" in capsys.readouterr().err


def test_a_picture_that_names_no_model_here_is_refused(
    tiny_token_folder: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "a", "--model", str(tiny_token_folder), "--output", "a.png"]) == 0
    assert main(["redo", "a.png"]) == 1
    assert "the model of this picture, 'tiny-tokens', is not here: give --model FOLDER" in capsys.readouterr().err
