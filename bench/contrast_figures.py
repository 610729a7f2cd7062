"""What `bench/contrast.py` counts in pictures, and its figures with their intervals as text."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from contrast_ways import Damage
from PIL import Image
from torch import Tensor

from tintype.metrics.intervals import proportion
from tintype.tokens.codebook import patches_of

STILL_THERE = 32.0  # root mean square difference, of 255, within which a wrong patch counts as still there


def still_there(pictures: Tensor, damage: Damage, patch: int) -> list[bool]:
    """Whether every wrong patch of a picture is in it at the end."""
    made = patches_of(pictures, patch)
    num = damage.patches.shape[1]
    own = torch.stack([row[place : place + num] for row, place in zip(made, damage.places.tolist(), strict=True)])
    differences = (own.float() - damage.patches.float()).square().mean(2).sqrt()
    return (differences < STILL_THERE).all(1).tolist()


def overlap(first: Tensor, second: Tensor) -> list[float]:
    """Intersection over union of the objects of two pictures, which are what differs from the corner's color."""
    masks = [(p.float() - p[:, :, :1, :1].float()).abs().amax(1) > 60 for p in (first, second)]
    union = (masks[0] | masks[1]).sum((1, 2)).clamp(min=1)
    return ((masks[0] & masks[1]).sum((1, 2)) / union).tolist()


def same_background(first: Tensor, second: Tensor) -> list[bool]:
    """Whether the corners of two pictures have about the same color."""
    corners = [p[:, :, :2, :2].float().mean((2, 3)) for p in (first, second)]
    return ((corners[0] - corners[1]).abs().amax(1) < 30).tolist()


def share_text(hits: Sequence[bool]) -> str:
    """A share with its interval of 95 %."""
    share, low, high = proportion(sum(hits), len(hits))
    return f"{share:.1%} [{low:.1%}, {high:.1%}]"


def mean_text(values: Sequence[float]) -> str:
    """A mean with its interval of 95 %."""
    half = 1.96 * np.std(values) / math.sqrt(len(values))
    return f"{np.mean(values):.2f} [{np.mean(values) - half:.2f}, {np.mean(values) + half:.2f}]"


def bits_text(bits: Tensor) -> str:
    """The mean bits of a picture, from those of its tokens [B, T]."""
    sums = bits.sum(1).double()
    half = 1.96 * float(sums.std()) / math.sqrt(len(sums))
    return f"{float(sums.mean()):.0f} ± {half:.0f} bits, {float(bits.mean()):.2f} a token"


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as a small PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
