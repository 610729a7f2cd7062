"""Planted copies: training pictures changed as a model changes what it has learned by heart, to see which are found."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tintype.diffusion.noise import Purpose, normal, uniform

NOISE = 0.15  # standard deviation in [-1, 1]
SHIFT = 1 / 24  # of the longer side, at most
GAIN, OFFSET = 0.35, 0.25  # most that ln of a color's contrast, and its brightness, change
SHARPNESS = 3 / 8  # of the pixels a side that a blurred copy has left
CHANGES = ("shift", "colors", "mirror", "blur", "noise", "all")  # of picture i: the one at i modulo 6


def planted(pictures: Tensor, seed: int) -> Tensor:
    """A changed copy of each picture, uint8 [N, 3, H, W]; of picture i with the change `CHANGES[i % 6]`."""
    x = pictures.float() / 127.5 - 1
    index = torch.arange(len(x))
    draws = 2 * uniform(seed, Purpose.PLANTED, index, 8).float() - 1
    noise = NOISE * normal(seed, Purpose.PLANTED_NOISE, index, tuple(x.shape[1:]))
    changed = [
        _shifted(x, draws[:, :2]),
        _recolored(x, draws[:, 2:5], draws[:, 5:8]),
        x.flip(-1),
        _resized(x, SHARPNESS),
        x + noise,
        _resized(_recolored(_shifted(x, draws[:, :2]), draws[:, 2:5], draws[:, 5:8]).flip(-1), SHARPNESS) + noise,
    ]
    return _pixels(torch.stack(changed)[index % len(CHANGES), index])


def _shifted(x: Tensor, by: Tensor) -> Tensor:
    """Moved by shares `by` [N, 2] in [-1, 1] of the largest shift, down and right; border pixels are repeated."""
    height, width = x.shape[-2:]
    reach = max(1, round(SHIFT * max(height, width)))
    wide = F.pad(x, (reach,) * 4, mode="replicate")
    moved = [
        picture[:, reach - down : reach - down + height, reach - right : reach - right + width]
        for picture, (down, right) in zip(wide, (by * reach).round().int().tolist(), strict=True)
    ]
    return torch.stack(moved)


def _recolored(x: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """With the contrast and brightness of each color changed by shares [N, 3] in [-1, 1] of the largest change."""
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * torch.exp(GAIN * gain)[:, :, None, None] + mean + OFFSET * offset[:, :, None, None]


def _resized(x: Tensor, scale: float) -> Tensor:
    """Made smaller and back, which blurs."""
    side = x.shape[-2:]
    smaller = F.interpolate(x, size=[max(1, round(scale * n)) for n in side], mode="area")
    return F.interpolate(smaller, size=side, mode="bilinear")


def _pixels(x: Tensor) -> Tensor:
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
