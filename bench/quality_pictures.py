"""Pictures for bench/quality.py: read as training reads them, stretched to squares, and shown on a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tintype.config import DataConfig
from tintype.data.images.decode import examine_all, preprocess_for
from tintype.data.sources.pairs import Pair

SHEET = (8, 6)  # pictures across and down
GAP = 4  # pixels between them


class Pictures(NamedTuple):
    """Pictures of any shape, and their captions."""

    captions: list[str]
    pixels: list[Tensor]  # uint8 [3, H, W]

    def squares(self, side: int) -> Tensor:
        """Stretched to squares: uint8 [N, 3, side, side]."""
        resized = [
            F.interpolate(picture[None].float(), size=(side, side), mode="bilinear", antialias=True)
            for picture in self.pixels
        ]
        return torch.cat(resized).round().clamp(0, 255).byte()

    def groups(self) -> list[Tensor]:
        """Stacked by shape: uint8 [N, 3, H, W] each."""
        shapes: dict[tuple[int, ...], list[Tensor]] = {}
        for picture in self.pixels:
            shapes.setdefault(tuple(picture.shape), []).append(picture)
        return [torch.stack(group) for group in shapes.values()]

    def subset(self, rows: Sequence[int]) -> Pictures:
        return Pictures([self.captions[row] for row in rows], [self.pixels[row] for row in rows])


def read_pictures(pairs: Sequence[Pair], resolution: int, multiple: int) -> Pictures:
    examined = examine_all(
        [pair.source for pair in pairs], preprocess_for(resolution, DataConfig(crop="none"), multiple)
    )
    pixels = [torch.from_numpy(np.ascontiguousarray(picture.pixels)) for picture in examined]
    return Pictures([pair.captions[0] for pair in pairs], pixels)


def sheet(samples: Pictures, real: Pictures) -> Image.Image:
    """Unselected samples to the left of as many real pictures."""
    across, down = SHEET
    every = [*samples.pixels, *real.pixels]
    height, width = (max(picture.shape[axis] for picture in every) + GAP for axis in (1, 2))
    panels = []
    for pictures in (samples, real):
        rows = np.linspace(0, len(pictures.pixels) - 1, across * down).round().astype(int)
        panel = Image.new("RGB", (across * width, down * height), "white")
        for place, row in enumerate(rows):
            picture = Image.fromarray(pictures.pixels[row].movedim(0, 2).numpy())
            panel.paste(picture, (place % across * width, place // across * height))
        panels.append(panel)
    whole = Image.new("RGB", (2 * panels[0].width + 24, panels[0].height), "black")
    whole.paste(panels[0], (0, 0))
    whole.paste(panels[1], (panels[0].width + 24, 0))
    return whole
