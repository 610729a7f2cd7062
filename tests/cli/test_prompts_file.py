"""Prompts files as people bring them from their trainer or web page: comments, options, and what is not understood."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tintype.cli.main import main
from tintype.cli.run.prompts_file import LINE_OPTIONS, Prompt, read_prompts
from tintype.errors import ConfigError, DataError
from tintype.pipeline.image_file import read_receipt
from tintype.pipeline.request import Options


def prompts_of(folder: Path, text: str) -> tuple[list[Prompt], list[str]]:
    path = folder / "prompts.txt"
    path.write_text(text, encoding="utf-8")
    return read_prompts(path)


def test_comments_and_empty_lines_are_no_prompts(tmp_path: Path) -> None:
    prompts, notes = prompts_of(tmp_path, "\ufeff# mine\n\n  a red circle \n\t#more\n")
    assert prompts == [Prompt("a red circle", Options())]
    assert len(notes) == 1
    assert "#: 2" in notes[0]


def test_options_of_a_line(tmp_path: Path) -> None:
    line = "a red circle --n blurry, dim --w 64 --h 48 --d 7 --s 3 --l 2.5"
    expected = Options(negative_prompt="blurry, dim", width=64, height=48, seeds=7, steps=3, guidance=2.5)
    assert prompts_of(tmp_path, line) == ([Prompt("a red circle", expected)], [])


def test_options_of_a_web_page(tmp_path: Path) -> None:
    line = '--prompt "a red -- circle" --negative_prompt "a star" --width=64 --seed 3 --cfg_scale 2'
    expected = Options(negative_prompt="a star", width=64, seeds=3, guidance=2.0)
    assert prompts_of(tmp_path, line) == ([Prompt("a red -- circle", expected)], [])


def test_dashes_in_a_caption_are_no_options(tmp_path: Path) -> None:
    captions = ["a well--known cat", "a -- b", "a cat --", "3 --4", "a ---x b"]
    prompts, notes = prompts_of(tmp_path, "\n".join(captions))
    assert [prompt.caption for prompt in prompts] == captions
    assert not notes


def test_an_unknown_option_is_named_with_its_line_and_is_no_part_of_the_caption(tmp_path: Path) -> None:
    prompts, notes = prompts_of(tmp_path, "a blue star\na red circle --ss euler_a --d 7")
    assert prompts[1] == Prompt("a red circle", Options(seeds=7))
    assert len(notes) == 1
    assert "line 2: --ss is not used" in notes[0]


@pytest.mark.parametrize("line", ["a --w wide", "a --d -1", "a --l 1e9", "a --s", "--d 7"])
def test_a_wrong_value_names_its_line(line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prompts\.txt, line 2: "):
        prompts_of(tmp_path, f"a blue star\n{line}")


def test_comments_alone_are_no_captions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no captions"):
        prompts_of(tmp_path, "# nothing\n\n")


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prompts.json").write_text('["a red circle"]')
    with pytest.raises(DataError, match="plain text"):
        read_prompts(tmp_path / "prompts.json")


def test_every_option_of_a_line_is_one_of_a_request() -> None:
    assert {option for option, _ in LINE_OPTIONS.values()} <= set(Options.__annotations__)


def test_pictures_follow_their_lines(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = tmp_path / "prompts.txt", tmp_path / "made"
    path.write_text("# mine\na red circle --n dim --w 24 --h 16 --d 7\n\na (blue:1.3) square\n")
    options = ["--model", str(tiny_model), "--steps", "2", "--seed", "5", "--out", str(folder)]
    assert main(["generate", "--prompts-file", str(path), *options]) == 0
    captured = capsys.readouterr()
    first, second = (Path(line.partition("  ")[0]) for line in captured.out.splitlines())
    receipt = read_receipt(first)
    with Image.open(first) as picture:
        assert picture.size == (receipt.width, receipt.height) == (24, 16)
    assert (receipt.caption, receipt.negative, receipt.seed) == ("a red circle", "dim", 7)
    assert (read_receipt(second).caption, read_receipt(second).seed) == ("a (blue:1.3) square", 5)
    assert "(blue:1.3) gives no weight" in captured.err
    strip = ["--strip", str(tmp_path / "strip.png")]
    assert main(["generate", "--prompts-file", str(path), *options, *strip]) == 2
    assert "--strip" in capsys.readouterr().err
