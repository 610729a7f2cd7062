"""Options that a command does not have: the nearest one is named, and the command's own help."""

from __future__ import annotations

import argparse

import pytest

from tintype.cli import options
from tintype.cli.main import main, parser


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["generate", "x", "--otu", "y"], "--out"),
        (["generate", "x", "--cfg-scale=3"], "--guidance"),
        (["generate", "x", "--num_inference_steps", "3"], "--steps"),
        (["train", "data", "--out", "run", "--learning-rate", "1"], "--lr"),
        (["train", "data", "--out", "run", "--pre", "nano"], "--pre"),
        (["serve", "--prot", "3"], "--port"),
        (["evaluate", "x", "--outdir", "y"], "--out"),
    ],
)
def test_a_wrong_option_names_the_nearest_and_the_help_of_its_command(
    arguments: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(capsys, *arguments)
    assert f"the nearest is {nearest}" in error
    assert error.endswith(f"see tintype {arguments[0]} --help\n")


@pytest.mark.parametrize(
    ("arguments", "wrong", "nearest"),
    [
        (["train", "data", "--otu", "run"], "--otu", "--out"),
        (["train", "data", "--output=run", "--images", "8"], "--output", "--out"),
        (["train", "--ouput", "run"], "--ouput", "--out"),
        (["distill", "shapes", "--out", "run", "--dta", "x"], "--dta", "--data"),
    ],
)
def test_a_misspelt_option_is_reported_before_the_one_that_is_missing(
    arguments: list[str], wrong: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(capsys, *arguments)
    assert f"no option {wrong}; the nearest is {nearest};" in error


@pytest.mark.parametrize("arguments", [["train", "data"], ["train", "data", "--images", "8"], ["train", "--", "--otu"]])
def test_an_option_that_is_missing_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "required: --out" in error_of(capsys, *arguments)


def test_nothing_is_suggested_for_an_option_unlike_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert error_of(capsys, "check", "data", "--frobnicate") == (
        "tintype: there is no option --frobnicate; see tintype check --help\n"
    )


def test_a_word_too_many_says_that_texts_need_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'photos'" in (error := error_of(capsys, "train", "my", "photos", "--out", "run"))
    assert "quotes" in error


def test_every_other_name_leads_to_an_option_of_a_command() -> None:
    commands = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    names = {
        name for command in commands.choices.values() for action in command._actions for name in action.option_strings
    }
    assert {f"--{name}" for choices in options.OTHER_NAMES.values() for name in choices} <= names


def test_generate_takes_short_and_familiar_names() -> None:
    args = options.parse(parser(), ["generate", "x", "-n", "4", "--out", "folder"])
    assert (args.num_images, str(args.output)) == (4, "folder")
    assert str(options.parse(parser(), ["evaluate", "x", "--out", "folder"]).output) == "folder"
    assert str(options.parse(parser(), ["redo", "x.png", "--out", "folder"]).output) == "folder"
