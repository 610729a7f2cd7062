"""From the bytes of a picture file to upright sRGB pixels, transparency over white."""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageColor, ImageOps

from tintype.config import DataConfig
from tintype.data.buckets import nearest, shapes_for
from tintype.data.files import FileError, Place, read_file
from tintype.data.kinds import HEIF
from tintype.data.similar import look_of
from tintype.errors import ConfigError

# Pillow opens MPO, the JPEG with several pictures that cameras write, as JPEG.
FORMATS: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MAX_PIXELS = 64_000_000  # of one picture, known from its header before anything is decoded
GRAY = 2  # steps of 255 by which the channels of a picture without color may differ: JPEG rounds
ANIMATED = "of an animation or many pages, the first picture is used"
_ORIENTATION = 0x0112  # EXIF tag
_LARGE_PIXELS = 16_000_000  # pictures from this size on are decoded one at a time, to bound memory
if find_spec("pillow_heif") is not None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    FORMATS = (*FORMATS, "HEIF")
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
    (4, b"ftyphe", HEIF),
    (0, b"\x89png", "damaged: its header cannot be read"),
    (0, b"\xff\xd8\xff", "damaged: its header cannot be read"),
    (0, b"riff", "damaged: its header cannot be read"),
    (0, b"gif8", "damaged: its header cannot be read"),
    (4, b"ftypavif", "damaged: its header cannot be read"),
    (4, b"ftypmif1", HEIF),
)


class PictureError(FileError):
    """A picture that cannot be used; the message is the reason."""


class Framing(NamedTuple):
    """What becomes of a decoded picture: what it is cut and scaled to, and by which rules it is left out."""

    resolution: int  # pixels; the side of a square, and about the square root of the area of other shapes
    shapes: tuple[tuple[int, int], ...]  # (height, width) in pixels that a picture may be given
    options: DataConfig


class Facts(NamedTuple):
    """What is kept of a picture besides its pixels."""

    sha256: str  # of the file
    width: int  # pixels, upright
    height: int
    look: int  # perceptual hash, 64 bits; 0 if the picture has no structure
    thumb: bytes  # 4 x 4 RGB
    notes: tuple[str, ...]  # what was done to it that its owner may want to know


class Decoded(NamedTuple):
    """A picture file, opened."""

    picture: Image.Image  # upright, mode RGB; a large JPEG perhaps at a fraction of its size
    notes: tuple[str, ...]  # what was done to it
    size: tuple[int, int]  # width and height of the whole, upright


class Examined(NamedTuple):
    """What became of one picture file."""

    pixels: NDArray[np.uint8] | None  # [3, H, W]; None if it cannot be used
    sha256: str  # of the file; "" if it could not be read
    reason: str  # why there are no pixels
    facts: Facts | None


def framing(resolution: int, options: DataConfig | None = None, patch: int = 8) -> Framing:
    """How pictures are cut and scaled for training at `resolution` with tokens of `patch` pixels a side."""
    options = options or DataConfig()
    background(options.alpha_color)
    shapes = shapes_for(resolution, patch, options.max_aspect) if options.crop == "none" else ()
    return Framing(resolution, shapes or ((resolution, resolution),), options)


def examine(place: Place, how: Framing) -> Examined:
    """Read, hash, decode and fit one picture; never raises for what is wrong with the file."""
    sha256 = ""
    try:
        content = place.read()
        sha256 = hashlib.sha256(content).hexdigest()
        most = max(max(shape) for shape in how.shapes)
        picture, notes, size = decode(content, max(how.resolution, most), how.options)
        shape = nearest(picture.size, how.shapes)
        _require_size(picture.size, shape, how.options)
        fitted = fit(picture, shape)
        look, thumb = look_of(fitted)
        pixels = np.ascontiguousarray(np.asarray(fitted, dtype=np.uint8).transpose(2, 0, 1))
        if "without color" not in notes and _is_gray(pixels, thumb):
            notes = (*notes, "without color")
        return Examined(pixels, sha256, "", Facts(sha256, *size, look, thumb, notes))
    except FileError as error:
        return Examined(None, sha256, str(error), None)
    except MemoryError:
        return Examined(None, sha256, "too large for the memory of this machine", None)


def read_picture(path: Path) -> Image.Image:
    """Read a picture file as upright sRGB, mode RGB, transparency over white. Raises PictureError."""
    try:
        return decode(read_file(path))[0]
    except FileError as error:
        raise PictureError(str(error)) from None


def fit(picture: Image.Image, shape: tuple[int, int]) -> Image.Image:
    """Cut the middle of a picture to the proportions of `shape` (height, width) and resize it to that, antialiased."""
    width, height = picture.size
    rows, columns = shape
    wide = width * rows > height * columns
    across = min(width, height * columns / rows) if wide else width
    down = height if wide else min(height, width * rows / columns)
    left, top = (width - across) / 2, (height - down) / 2
    box = (left, top, left + across, top + down)
    return picture.resize((columns, rows), Image.Resampling.BICUBIC, box=box)


def decode(content: bytes, at_least: int = 0, options: DataConfig | None = None) -> Decoded:
    """Decode the bytes of a picture file to upright sRGB. Raises PictureError.

    `at_least`: a shorter side in pixels that is enough; large JPEGs are then decoded at a fraction of their size.
    """
    image = _open(content)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureError(f"more than {MAX_PIXELS // 10**6} megapixels")
    options = options or DataConfig()
    notes = _notes(image, content)
    if ANIMATED in notes and options.animations == "skip":
        raise PictureError("an animation or several pages")
    if at_least and image.format in ("JPEG", "MPO"):
        image.draft(None, (2 * at_least, 2 * at_least))
    guard = _large if width * height > _LARGE_PIXELS else nullcontext()
    with guard:
        try:
            image.load()
            upright = _upright(image)
            if upright is not image:
                notes = (*notes, "turned upright as its EXIF says")
            picture, transparent = _to_rgb(upright, background(options.alpha_color))
            if transparent:
                notes = (*notes, f"transparent, laid over {options.alpha_color}")
            turned = (width < height) != (picture.width < picture.height) and picture.width != picture.height
            return Decoded(picture, notes, (height, width) if turned else (width, height))
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
        notes.append(ANIMATED)
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
        return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION) in range(2, 9) else image
    except Exception:  # damaged EXIF says nothing about which way is up
        return image


def _to_rgb(image: Image.Image, behind: tuple[int, int, int]) -> tuple[Image.Image, bool]:
    """The picture in mode RGB, and whether some of it was transparent."""
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
        return color, False
    canvas = Image.new("RGB", color.size, behind)
    canvas.paste(color, mask=alpha)
    return canvas, True


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
    return color if color.mode == "RGB" else color.convert("RGB")


def _is_gray(pixels: NDArray[np.uint8], thumb: bytes) -> bool:
    if any(abs(thumb[i] - thumb[i + 1]) > GRAY or abs(thumb[i] - thumb[i + 2]) > GRAY for i in range(0, len(thumb), 3)):
        return False  # most pictures: told from 16 pixels
    red, green, blue = pixels.astype(np.int16)
    return bool(np.abs(red - green).max() <= GRAY and np.abs(blue - green).max() <= GRAY)


def _require_size(size: tuple[int, int], shape: tuple[int, int], options: DataConfig) -> None:
    short, long = sorted(size)
    if options.min_size:
        if short < options.min_size:
            raise PictureError(f"smaller than {options.min_size} pixels")
    elif size[0] < shape[1] / 2 or size[1] < shape[0] / 2:
        side = f"of {shape[0]} pixels" if shape[0] == shape[1] else f"of {shape[1]}x{shape[0]} pixels"
        raise PictureError(f"smaller than half the training size {side}")
    if long > options.max_aspect * short:
        raise PictureError(f"its sides differ more than {options.max_aspect:g} to 1")


def background(name: str) -> tuple[int, int, int]:
    """Red, green and blue of a color by name or #rrggbb. Raises ConfigError."""
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError:
        raise ConfigError(f"the color behind transparency must be a name or #rrggbb, not {name!r}") from None
