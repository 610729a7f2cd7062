"""Init images: upright, without transparency, cut and scaled to the size of the picture to make, padded to outpaint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from tintype.errors import ConfigError
from tintype.pipeline.limits import MAX_SIDE, MIN_STRENGTH
from tintype.pipeline.validators import integer, number

Padding = tuple[int, int, int, int]  # pixels: left, top, right, bottom


@dataclass(frozen=True, slots=True)
class InitImage:
    """The picture that a request starts from, at the size to make, padding included."""

    image: Image.Image | None  # RGB; None: the request starts from pure noise
    mask: Image.Image | None  # L; white is repainted
    padding: Padding
    width: int
    height: int
    strength: float  # of the noise added, or of inversion

    @classmethod
    def prepare(
        cls,
        picture: Image.Image | None,
        mask: Image.Image | None,
        padding: Padding,
        width: int,
        height: int,
        strength: float,
    ) -> InitImage:
        """Fit a picture and its mask into width x height. Raises ConfigError.

        The padding repeats the picture's edge and is white in the mask, to be repainted.
        """
        if picture is None:
            return cls(None, None, padding, width, height, 1.0)
        if mask is not None and mask.size != picture.size:
            sizes = [f"{image.width}x{image.height}" for image in (mask, picture)]
            raise ConfigError(f"the mask is {sizes[0]} and the init_image {sizes[1]}: they must have the same size")
        left, top, right, bottom = padding
        inner = (width - left - right, height - top - bottom)
        if min(inner) < 1:
            raise ConfigError(f"outpaint leaves no room for the picture in {width}x{height}")
        strength = number("strength", strength, MIN_STRENGTH, 1)
        image = resize_and_crop(picture, "RGB", *inner)
        repaint = None if mask is None else resize_and_crop(mask, "L", *inner)
        if any(padding):
            rows_and_columns = ((top, bottom), (left, right))
            image = Image.fromarray(np.pad(np.asarray(image), (*rows_and_columns, (0, 0)), mode="edge"))
            inside = np.zeros(inner[::-1], np.uint8) if repaint is None else np.asarray(repaint)
            repaint = Image.fromarray(np.pad(inside, rows_and_columns, constant_values=255))
        return cls(image, repaint, padding, width, height, strength)


def outpaint_padding(outpaint: Sequence[int] | None) -> Padding:
    """The option `outpaint`, checked; None is no padding. Raises ConfigError."""
    if outpaint is None:
        return 0, 0, 0, 0
    if len(outpaint) != 4:
        raise ConfigError(f"outpaint must be four numbers: left, top, right, bottom, not {len(outpaint)}")
    left, top, right, bottom = (integer("each side of outpaint", pixels, 0, MAX_SIDE) for pixels in outpaint)
    return left, top, right, bottom


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
