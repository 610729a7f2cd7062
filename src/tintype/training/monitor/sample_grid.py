"""A grid of samples for some training captions: one PNG with the captions below the pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

MAX_PICTURES = 16
CELL = 128  # pixels; smaller pictures are enlarged to about this
LABEL = 16  # pixels; height of a line of text
MARGIN = 6
INK, PAPER = (235, 235, 235), (24, 24, 24)


def choose_captions(captions: Sequence[Sequence[str]], num: int = MAX_PICTURES) -> list[str]:
    """Up to `num` distinct captions, spread evenly over a data set that gives each picture one or more."""
    distinct = list(dict.fromkeys(choices[0] for choices in captions))
    if len(distinct) <= num:
        return distinct
    return [distinct[(2 * index + 1) * len(distinct) // (2 * num)] for index in range(num)]


def sample_grid(pictures: Sequence[Image.Image], captions: Sequence[str]) -> bytes:
    """Pictures of one size in rows, each with its caption, cut to fit, below it: PNG."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    scale = max(1, round(CELL / max(pictures[0].size)))
    width, height = pictures[0].width * scale, pictures[0].height * scale
    page = Image.new("RGB", (columns * (width + MARGIN) + MARGIN, rows * (height + LABEL + MARGIN) + MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(11)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = MARGIN + index % columns * (width + MARGIN)
        top = MARGIN + index // columns * (height + LABEL + MARGIN)
        page.paste(picture.resize((width, height), Image.Resampling.NEAREST), (left, top))
        draw.text((left, top + height + 1), _cut(caption, font, width), INK, font)
    buffer = BytesIO()
    page.save(buffer, format="PNG")
    return buffer.getvalue()


def _cut(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    text = " ".join(text.split())[: width // 2]
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
