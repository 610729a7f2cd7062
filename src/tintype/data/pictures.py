"""From the bytes of a picture file to upright sRGB pixels, transparency over white."""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from tintype.data.files import FileError, read_file

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO")  # MPO: JPEG with several pictures, from cameras
MAX_PIXELS = 64_000_000  # of one picture, known from its header before anything is decoded
MAX_ASPECT = 4.0  # longer side over shorter side; a centre crop of anything longer shows little of it
_LARGE_PIXELS = 16_000_000  # pictures from this size on are decoded one at a time, to bound memory
_large = threading.Lock()
_opening = threading.Lock()  # warnings.catch_warnings changes the whole process
_SIGNS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the picture: run git lfs pull"),
    (0, b"<!doctype html", "an HTML page, not a picture"),
    (0, b"<html", "an HTML page, not a picture"),
    (0, b"<svg", "an SVG drawing: convert it to PNG"),
    (0, b"<?xml", "an XML or SVG file: convert it to PNG"),
    (0, b"%!ps", "a PostScript file: convert it to PNG"),
    (0, b"%pdf", "a PDF file: convert it to PNG"),
    (0, b"8bps", "a Photoshop file: convert it to PNG"),
    (0, b"\xff\x0a", "a JPEG XL picture: convert it to PNG or JPEG"),
    (4, b"jxl ", "a JPEG XL picture: convert it to PNG or JPEG"),
    (4, b"ftyphe", "a HEIC picture: convert it to PNG or JPEG"),
    (0, b"\x89png", "damaged: its header cannot be read"),
    (0, b"\xff\xd8\xff", "damaged: its header cannot be read"),
    (0, b"riff", "damaged: its header cannot be read"),
    (0, b"gif8", "damaged: its header cannot be read"),
    (4, b"ftypavif", "damaged: its header cannot be read"),
    (4, b"ftypmif1", "a HEIC picture: convert it to PNG or JPEG"),
)


class PictureError(FileError):
    """A picture that cannot be used; the message is the reason."""


class Examined(NamedTuple):
    """What became of one picture file."""

    pixels: NDArray[np.uint8] | None  # [3, R, R]; None if it cannot be used
    sha256: str  # of the file; "" if it could not be read
    reason: str  # why there are no pixels
    notes: tuple[str, ...]  # what was done to it that its owner may want to know


def examine(path: Path, resolution: int) -> Examined:
    """Read, hash, decode and fit one picture; never raises for what is wrong with the file."""
    sha256 = ""
    try:
        content = read_file(path)
        sha256 = hashlib.sha256(content).hexdigest()
        picture, notes = decode(content, resolution)
        _require_size(picture.size, resolution)
        return Examined(fit(picture, resolution), sha256, "", notes)
    except FileError as error:
        return Examined(None, sha256, str(error), ())
    except MemoryError:
        return Examined(None, sha256, "too large for the memory of this machine", ())


def read_picture(path: Path) -> Image.Image:
    """Read a picture file as upright sRGB, mode RGB, transparency over white. Raises PictureError."""
    try:
        return decode(read_file(path))[0]
    except FileError as error:
        raise PictureError(str(error)) from None


def fit(picture: Image.Image, resolution: int) -> NDArray[np.uint8]:
    """Crop the centre square and resize it, antialiased, to uint8 [3, resolution, resolution]."""
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    square = picture.resize(
        (resolution, resolution), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    return np.ascontiguousarray(np.asarray(square, dtype=np.uint8).transpose(2, 0, 1))


def decode(content: bytes, at_least: int = 0) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode the bytes of a picture file to upright sRGB, with notes. Raises PictureError.

    `at_least`: a shorter side in pixels that is enough; large JPEGs are then decoded at a fraction of their size.
    """
    image = _open(content)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureError(f"more than {MAX_PIXELS // 10**6} megapixels")
    notes = _notes(image, content)
    if at_least and image.format in ("JPEG", "MPO"):
        image.draft(None, (2 * at_least, 2 * at_least))
    guard = _large if width * height > _LARGE_PIXELS else nullcontext()
    with guard:
        try:
            image.load()
            return _to_rgb(_upright(image)), notes
        except PictureError:
            raise
        except Exception as error:  # decoders raise many kinds; none may stop a run
            cut = "truncated" in str(error).lower() or "too short" in str(error).lower()
            raise PictureError("damaged: the file is cut short" if cut else "damaged: it cannot be decoded") from None


def _open(content: bytes) -> Image.Image:
    if not content:
        raise PictureError("the file is empty")
    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise PictureError(f"more than {MAX_PIXELS // 10**6} megapixels") from None
    except Exception:
        head = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        sign = next((what for at, mark, what in _SIGNS if head[at:].startswith(mark)), None)
        raise PictureError(sign or "not a picture that can be read") from None


def _notes(image: Image.Image, content: bytes) -> tuple[str, ...]:
    notes = []
    if _is_animated(image):
        notes.append("of an animation or many pages, the first picture is used")
    if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;"):
        notes.append("without color")
    if image.mode == "CMYK":
        notes.append("CMYK, converted to RGB")
    if image.format == "PNG" and b"IEND" not in content[-256:]:
        notes.append("the end of the file is missing, but not of the picture")
    return tuple(notes)


def _is_animated(image: Image.Image) -> bool:
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # a second picture that is damaged does no harm
        return False


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF says nothing about which way is up
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
    elif image.mode in ("P", "RGBX", "YCbCr", "HSV"):
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    color = image.convert(image.mode[:-1]) if alpha is not None else image
    if color.mode not in ("L", "RGB", "CMYK"):
        raise PictureError(f"colors of the kind {color.mode} cannot be read: convert it to RGB")
    color = _to_srgb(color, profile)
    if alpha is None or alpha.getextrema() == (255, 255):
        return color
    return Image.composite(color, Image.new("RGB", color.size, "white"), alpha)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring 16-bit and float pixels of one channel to mode L; Pillow would clip them to white or black."""
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
    return color.convert("RGB")


def _require_size(size: tuple[int, int], resolution: int) -> None:
    short, long = sorted(size)
    if short < resolution / 2:
        raise PictureError(f"smaller than half the training size of {resolution} pixels")
    if long > MAX_ASPECT * short:
        raise PictureError(f"its sides differ more than {MAX_ASPECT:g} to 1")
