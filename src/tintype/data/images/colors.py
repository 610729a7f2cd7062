"""Colors: any mode and profile to 8-bit sRGB, with transparency laid over one color."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms, ImageColor

from tintype.data.images.png import gray16_alpha
from tintype.data.sources.files import FileError
from tintype.errors import ConfigError


class PictureError(FileError):
    """A picture that cannot be used; the message is the reason."""


def to_rgb(image: Image.Image, background: tuple[int, int, int]) -> tuple[Image.Image, bool]:
    """Convert a picture to mode RGB, and say whether any of it was transparent. Raises PictureError."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        alpha, image = gray16_alpha(image), _eight_bits(image)
        if alpha is not None:
            image.putalpha(alpha)
            return _composite(image, profile, background)
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _composite(image.convert("LA" if image.mode in ("LA", "La") else "RGBA"), profile, background)
    elif image.mode in ("P", "RGBX", "YCbCr", "HSV"):
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "RGB", "CMYK"):
        raise PictureError(f"color mode {image.mode} is not supported: convert it to RGB")
    return _to_srgb(image, profile), False


@lru_cache(maxsize=8)
def parse_color(name: str) -> tuple[int, int, int]:
    """Red, green and blue of a color by name or #rrggbb. Raises ConfigError."""
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError:
        raise ConfigError(f"alpha_color must be a name or #rrggbb, not {name!r}") from None


def _composite(image: Image.Image, profile: bytes | None, background: tuple[int, int, int]) -> tuple[Image.Image, bool]:
    """Lay a picture in mode RGBA or LA over one color, and say whether any of it was transparent."""
    corner = image.getpixel((0, 0))  # most transparent drawings show it there
    transparent = (isinstance(corner, tuple) and corner[-1] < 255) or image.getchannel("A").getextrema() != (255, 255)
    if not profile and image.mode == "RGBA" and transparent:  # most drawings: no conversion is needed
        color, mask = image, image
    else:
        color, mask = _to_srgb(image.convert(image.mode[:-1]), profile), image.getchannel("A")
    if not transparent:
        return color, False
    canvas = Image.new("RGB", color.size, background)
    canvas.paste(color, mask=mask)
    return canvas, True


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit and float pixels of one channel to mode L; Pillow would clip them to white or black."""
    pixels = np.asarray(image).astype(np.float32)
    if not np.isfinite(pixels).all() or pixels.min() < 0:
        raise PictureError("pixel values below zero or not finite")
    if image.mode == "F":
        if pixels.max() > 1:
            raise PictureError("float pixel values above 1: scale them to 0..1")
        pixels *= 255
    else:
        if pixels.max() > 65535:
            raise PictureError("32-bit pixel values: convert it to 8 or 16 bit")
        pixels /= 257
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def _to_srgb(color: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if color.mode != "RGB" or "srgb" not in ImageCms.getProfileDescription(source).lower():
                srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
                converted = ImageCms.profileToProfile(color, source, srgb, outputMode="RGB")
                if converted is not None:
                    return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # a damaged profile, or one for other channels than the picture has
    return color if color.mode == "RGB" else color.convert("RGB")
