"""Pictures in the forms of ComfyUI: IMAGE is [B, H, W, 3] float32 from 0 to 1, MASK is [B, H, W] likewise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tintype.errors import ConfigError


def to_image(pictures: Sequence[Image.Image]) -> Tensor:
    """RGB pictures of one size -> IMAGE."""
    return torch.from_numpy(np.stack([np.asarray(picture, np.uint8) for picture in pictures])).float() / 255


def to_pictures(image: Tensor) -> list[Image.Image]:
    """IMAGE -> RGB pictures; a fourth channel is left out."""
    levels = (image[..., :3].float().cpu() * 255).round().clamp(0, 255).byte().numpy()
    return [Image.fromarray(picture) for picture in levels]


def one_picture(image: Tensor, name: str) -> Image.Image:
    """The picture of an IMAGE that has one. Raises ConfigError."""
    if len(image) != 1:
        raise ConfigError(f"{name} must be one picture, not {len(image)}; choose one with ImageFromBatch")
    return to_pictures(image)[0]


def mask_picture(mask: Tensor, size: tuple[int, int]) -> Image.Image:
    """MASK -> a gray picture of `size` (width, height), white where the mask is 1. Raises ConfigError.

    The mask that ComfyUI makes for a picture without transparency has a size of its own.
    """
    if mask.ndim == 2:
        mask = mask[None]
    if len(mask) != 1:
        raise ConfigError(f"mask must be one mask, not {len(mask)}")
    levels = (mask[0].float().cpu() * 255).round().clamp(0, 255).byte().numpy()
    gray = Image.fromarray(levels)
    return gray if gray.size == size else gray.resize(size, Image.Resampling.BILINEAR)
