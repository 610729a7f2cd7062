"""Init images: upright, without transparency, cut and scaled to the size of the picture to make, padded to outpaint."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image, ImageOps

from tintype.errors import ConfigError

Padding = tuple[int, int, int, int]  # pixels: left, top, right, bottom


def prepare(
    picture: Image.Image | None, mask: Image.Image | None, padding: Padding, width: int, height: int
) -> tuple[Image.Image | None, Image.Image | None]:
    """An init image (RGB) and its mask (L) at width x height, padding included. Raises ConfigError.

    The padding repeats the picture's edge and is white in the mask, to be repainted.
    """
    if picture is None:
        return None, None
    left, top, right, bottom = padding
    inner = (width - left - right, height - top - bottom)
    if min(inner) < 1:
        raise ConfigError(f"outpaint leaves no room for the picture in {width}x{height}")
    image = resize_and_crop(picture, "RGB", *inner)
    repaint = None if mask is None else resize_and_crop(mask, "L", *inner)
    if any(padding):
        rows_and_columns = ((top, bottom), (left, right))
        image = Image.fromarray(np.pad(np.asarray(image), (*rows_and_columns, (0, 0)), mode="edge"))
        inside = np.zeros(inner[::-1], np.uint8) if repaint is None else np.asarray(repaint)
        repaint = Image.fromarray(np.pad(inside, rows_and_columns, constant_values=255))
    return image, repaint


def resize_and_crop(picture: Image.Image, mode: str, width: int, height: int) -> Image.Image:
    """The picture upright, over white where transparent, scaled to cover width x height, and its middle."""
    upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    if upright.size != (width, height):
        upright = ImageOps.fit(upright.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    return upright.convert(mode)


def digest(picture: Image.Image | None) -> str:
    """sha256 of the pixels of a prepared picture; "" for none."""
    return "" if picture is None else hashlib.sha256(picture.tobytes()).hexdigest()
