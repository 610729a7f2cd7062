"""The pictures of docs/contrast.md: the same captions drawn both ways, and one picture as it is made.

    python bench/contrast_pictures.py FOLDER [--diffusion shapes] [--tokens shapes-tokens] [--seed 0]

writes two-ways.png, a row of pictures by diffusion above a row of pictures token by token, and being-made.png, one
picture of each on the way: noisy pictures above, the tokens so far below.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tintype.model.codec import pictures_of
from tintype.pipeline.pipeline import Pipeline
from tintype.tokens.writer import TokenWriter

CAPTIONS = (
    "a red circle left of a blue square",
    "a large pink star on a cream background",
    "three orange squares",
    "a small green star above a purple cross",
    "two cyan triangles on black",
    "a large yellow circle on a gray background",
    "a purple square below an orange cross",
    "a blue star",
)
FRAMES = 8  # of a picture that is made
CELL, MARGIN, LABEL = 96, 6, 16  # pixels
INK, PAPER, UNWRITTEN = (235, 235, 235), (24, 24, 24), 70


def sheet(rows: Sequence[Sequence[Image.Image]], labels: Sequence[str]) -> Image.Image:
    """Rows of pictures, a label above each."""
    width = len(rows[0]) * (CELL + MARGIN) + MARGIN
    page = Image.new("RGB", (width, len(rows) * (CELL + MARGIN + LABEL) + MARGIN), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        top = MARGIN + number * (CELL + MARGIN + LABEL)
        draw.text((MARGIN, top), label, INK, font)
        for column, picture in enumerate(row):
            enlarged = picture.resize((CELL, CELL), Image.Resampling.NEAREST)
            page.paste(enlarged, (MARGIN + column * (CELL + MARGIN), top + LABEL))
    return page


def so_far(writer: TokenWriter, tokens: Tensor, num: int) -> Image.Image:
    """A picture of which the first `num` tokens are written; the rest is gray."""
    net = writer.config.net
    pixels = np.array(writer.pictures(tokens)[0])
    for place in range(num, net.num_tokens):
        row, column = (net.patch * index for index in divmod(place, net.side))
        pixels[row : row + net.patch, column : column + net.patch] = UNWRITTEN
    return Image.fromarray(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures that compare diffusion and token by token.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--diffusion", default="shapes")
    parser.add_argument("--tokens", default="shapes-tokens")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pipeline, writer = Pipeline.load(options.diffusion, "cpu"), TokenWriter.load(options.tokens, "cpu")
    captions = list(CAPTIONS)
    rows = [pipeline.generate(captions, seeds=options.seed), writer.generate(captions, seeds=options.seed)]
    sheet(rows, ["diffusion", "token by token"]).save(options.folder / "two-ways.png")

    steps = list(pipeline.stream(captions[:1], seeds=options.seed))
    shown = [steps[round(index * (len(steps) - 1) / (FRAMES - 1))] for index in range(FRAMES - 1)]
    noisy = [pictures_of(pipeline.codec.decode(step.x / (1 + step.sigma)))[0] for step in shown]
    tokens = torch.stack([step.tokens for step in writer.stream(captions[:1], seeds=options.seed)], dim=1)
    places = [round((index + 1) * writer.config.net.num_tokens / FRAMES) for index in range(FRAMES)]
    written = [so_far(writer, tokens, num) for num in places]
    frames = [[*noisy, pipeline.pictures(steps[-1].denoised)[0]], written]
    sheet(frames, [f"diffusion: {captions[0]}", "token by token"]).save(options.folder / "being-made.png")


if __name__ == "__main__":
    main()
