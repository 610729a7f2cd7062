"""Pictures that are given to be changed, made ready: upright, without transparency, at the size to make."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image, ImageOps

from tintype.errors import ConfigError

Margins = tuple[int, int, int, int]  # pixels: left, top, right, bottom


def canvas(
    picture: Image.Image | None, mask: Image.Image | None, margins: Margins, width: int, height: int
) -> tuple[Image.Image | None, Image.Image | None]:
    """A picture and its mask at the size to make, with margins around it that are to be painted. Raises ConfigError."""
    if picture is None:
        return None, None
    left, top, right, bottom = margins
    inner = (width - left - right, height - top - bottom)
    if min(inner) < 1:
        raise ConfigError(f"outpaint leaves no room for the picture in {width}x{height}")
    page = fitted(picture, "RGB", *inner)
    painted = None if mask is None else fitted(mask, "L", *inner)
    if any(margins):
        around = ((top, bottom), (left, right))
        page = Image.fromarray(np.pad(np.asarray(page), (*around, (0, 0)), mode="edge"))
        inside = np.zeros(inner[::-1], np.uint8) if painted is None else np.asarray(painted)
        painted = Image.fromarray(np.pad(inside, around, constant_values=255))
    return page, painted


def fitted(picture: Image.Image, mode: str, width: int, height: int) -> Image.Image:
    """Upright, without transparency (over white), cut and scaled to width x height."""
    upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    if upright.size != (width, height):
        upright = ImageOps.fit(upright.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    return upright.convert(mode)


def digest(picture: Image.Image | None) -> str:
    """sha256 of the pixels of a fitted picture; "" for none."""
    return "" if picture is None else hashlib.sha256(picture.tobytes()).hexdigest()
