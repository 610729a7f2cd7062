"""A sheet of pictures in rows, each with a line of text below it and a heading above the row."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from tintype.view.contact_sheet import INK, LABEL, MARGIN, PAPER

CELL = 128  # pixels of the side of a picture on the sheet
MAX_CHARACTERS = 20  # of a line below a picture


class Row(NamedTuple):
    """Pictures side by side."""

    heading: str
    pictures: Sequence[tuple[Image.Image, str, str]]  # with a figure and a name below each


def picture_sheet(rows: Sequence[Row]) -> bytes:
    """The rows as a PNG. Each picture fits a square of 128 pixels; small ones are enlarged without smoothing."""
    columns = max(len(row.pictures) for row in rows)
    height = CELL + 2 * LABEL + 2 * MARGIN
    sheet = Image.new("RGB", (MARGIN + columns * (CELL + MARGIN), MARGIN + len(rows) * height), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, row in enumerate(rows):
        top = MARGIN + number * height
        draw.text((MARGIN, top), _printed(row.heading), INK, font)
        for column, (picture, figure, name) in enumerate(row.pictures):
            left = MARGIN + column * (CELL + MARGIN)
            cell = _fitted(picture)
            sheet.paste(cell, (left + (CELL - cell.width) // 2, top + LABEL + MARGIN + (CELL - cell.height) // 2))
            draw.text((left, top + LABEL + MARGIN + CELL), _printed(_line(figure, name)), INK, font)
    buffer = BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _fitted(picture: Image.Image) -> Image.Image:
    side = max(picture.size)
    size = (max(1, round(picture.width * CELL / side)), max(1, round(picture.height * CELL / side)))
    return picture.resize(size, Image.Resampling.NEAREST if side < CELL else Image.Resampling.BOX)


def _line(figure: str, name: str) -> str:
    """Figure and name; of a long name the end, which tells pictures apart."""
    room = MAX_CHARACTERS - len(figure) - 1
    return f"{figure} {name if len(name) <= room else '...' + name[3 - room :]}".strip()


def _printed(text: str) -> str:
    """What the built-in font has signs for."""
    return text.encode("latin-1", "replace").decode("latin-1")
