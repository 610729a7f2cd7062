"""Watching in the terminal: half blocks where there are colors, a bar otherwise, nothing in a pipe."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console

from tintype.model.codec import PixelCodec
from tintype.view.terminal import UPPER, Preview, can_show, half_blocks


def console(color: str | None, terminal: bool = True) -> Console:
    class Utf8(io.StringIO):
        encoding = "utf-8"

    return Console(file=Utf8(), force_terminal=terminal, color_system=color, width=80, height=30)  # type: ignore[arg-type]


def written(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_two_pixels_make_one_character() -> None:
    pixels = torch.tensor([[[255, 0], [0, 16]], [[0, 0], [0, 32]], [[0, 255], [255, 48]]], dtype=torch.uint8)
    text = half_blocks(pixels, 64, 20)
    assert text.plain == f"{UPPER}{UPPER}\n"
    styles = [str(span.style) for span in text.spans]
    assert styles == ["#ff0000 on #0000ff", "#0000ff on #102030"]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (256, 256), (33, 31), (1, 1), (2048, 8)])
def test_a_picture_fits_the_terminal(height: int, width: int) -> None:
    lines = half_blocks(torch.zeros(3, height, width, dtype=torch.uint8), 64, 20).plain.splitlines()
    assert 1 <= len(lines) <= 20
    assert 1 <= len(lines[0]) <= 64


@pytest.mark.parametrize(("color", "picture"), [("truecolor", True), ("256", False), (None, False)])
def test_the_picture_is_shown_where_colors_allow_it(color: str | None, picture: bool) -> None:
    screen = console(color)
    assert can_show(screen) == picture
    with Preview(PixelCodec().decode, console=screen) as preview:
        preview.update(3, 8, torch.zeros(2, 3, 8, 8))
    assert (UPPER in written(screen)) == picture
    assert "3/8" in written(screen)


def test_no_picture_when_not_wanted_and_nothing_at_all_in_a_pipe() -> None:
    screen = console("truecolor")
    with Preview(PixelCodec().decode, picture=False, console=screen) as preview:
        preview.update(3, 8, torch.zeros(1, 3, 8, 8))
    assert UPPER not in written(screen)
    pipe = console(None, terminal=False)
    with Preview(PixelCodec().decode, console=pipe) as preview:
        preview.update(3, 8, torch.zeros(1, 3, 8, 8))
    assert written(pipe) == ""
