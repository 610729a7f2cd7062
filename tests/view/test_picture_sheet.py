"""Sheets of labeled pictures: every picture is on it, with its figure whole."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from tintype.view.picture_sheet import CELL, Row, _line, picture_sheet


def test_every_picture_stands_in_its_row() -> None:
    colors = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    sizes = [(16, 16), (8, 16), (300, 200)]
    red, green, blue = (Image.new("RGB", size, color) for size, color in zip(sizes, colors, strict=True))
    rows = [Row("first", [(red, "", "red"), (green, "62 %", "green 東")]), Row("second", [(blue, "", "")])]
    content = picture_sheet(rows)
    sheet = Image.open(BytesIO(content)).convert("RGB")
    counts = {color: num for num, color in sheet.getcolors(maxcolors=10**6) or []}
    assert [counts[color] for color in colors] == [CELL * CELL, CELL // 2 * CELL, CELL * round(CELL * 2 / 3)]


def test_a_long_name_gives_way_to_the_figure() -> None:
    assert _line("62 %", "train-000.tar/pom00000260.jpg") == "62 % ...00000260.jpg"
    assert _line("", "short.png") == "short.png"
