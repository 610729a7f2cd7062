"""Decoding: bytes of a picture file to upright sRGB pixels, hashed, cropped and resized for training."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tintype.config import DataConfig
from tintype.data.images.colors import PictureError as PictureError
from tintype.data.images.colors import parse_color, to_rgb
from tintype.data.images.perceptual_hash import NOTHING, perceptual_hashes, thumbnail
from tintype.data.images.pillow_warnings import pillow_warnings_ignored
from tintype.data.images.png import transparent_color, without_texts
from tintype.data.images.resize import crop_and_resize_all
from tintype.data.process_pool import one_at_a_time
from tintype.data.sources.file_types import HEIF
from tintype.data.sources.files import FileError, ImageSource, read_file
from tintype.model.aspect_buckets import bucket_shapes, nearest_bucket

# Pillow opens MPO, the JPEG with several pictures that cameras write, as JPEG.
FORMATS: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MAX_PIXELS = 64_000_000  # of one picture, known from its header before anything is decoded
GRAY = 2  # of 255, by which the channels of a picture without color may differ: JPEG rounds
ANIMATED = "an animation or several pages, of which the first picture is used"
_ORIENTATION = 0x0112  # EXIF tag
DAMAGED = "damaged: "  # the start of a reason
TOO_LARGE = "too large for the memory of this machine"
_BATCH_PIXELS = 2**18  # decoded pixels that are resized together: they fit the cache of a core
_LARGE_PIXELS = 16_000_000  # pictures from this size on are decoded one at a time, to bound memory
if find_spec("pillow_heif") is not None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    FORMATS = (*FORMATS, "HEIF")
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
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
    (0, b"\x89png", DAMAGED + "its header cannot be read"),
    (0, b"\xff\xd8\xff", DAMAGED + "its header cannot be read"),
    (0, b"riff", DAMAGED + "its header cannot be read"),
    (0, b"gif8", DAMAGED + "its header cannot be read"),
    (4, b"ftypavif", DAMAGED + "its header cannot be read"),
    (4, b"ftypmif1", HEIF),
)


class Preprocess(NamedTuple):
    """Preprocessing of pictures: the shapes they are cropped and resized to, and the rules that leave some out."""

    resolution: int  # pixels; the side of a square, and about the square root of the area of other shapes
    shapes: tuple[tuple[int, int], ...]  # aspect buckets (height, width) in pixels
    options: DataConfig


class ImageFacts(NamedTuple):
    """Facts about a picture that are kept beside its pixels."""

    sha256: str  # of the file
    width: int  # pixels, upright
    height: int
    phash: int  # perceptual hash, 64 bits; 0 for a picture without structure
    color_grid: bytes  # the picture at 4 x 4 RGB
    notes: tuple[str, ...]  # conversions that its owner may want to know of


class Decoded(NamedTuple):
    """A decoded picture file."""

    picture: Image.Image  # upright, mode RGB; a large JPEG perhaps at a fraction of its size
    notes: tuple[str, ...]  # conversions
    size: tuple[int, int]  # width and height of the file's picture, upright


class Examined(NamedTuple):
    """One picture file after preprocessing, or the reason why it cannot be used."""

    sha256: str  # of the file; "" if it could not be read
    reason: str = ""  # why it cannot be used
    facts: ImageFacts | None = None  # None if it cannot be used
    shape: tuple[int, int] = (0, 0)  # (height, width) of its aspect bucket
    pixels: NDArray[np.uint8] | None = None  # [3, *shape], unless only facts are wanted


def preprocess_for(resolution: int, options: DataConfig | None = None, patch: int = 8) -> Preprocess:
    """Return the preprocessing for training at `resolution` pixels with tokens of `patch` pixels a side."""
    options = options or DataConfig()
    parse_color(options.alpha_color)
    shapes = bucket_shapes(resolution, patch, options.max_aspect) if options.crop == "none" else ()
    return Preprocess(resolution, shapes or ((resolution, resolution),), options)


def examine(source: ImageSource, preprocess: Preprocess, pixels: bool = True) -> Examined:
    """Read, hash, decode and, with `pixels`, crop and resize one picture; a faulty file gives a reason, no error."""
    return examine_all([source], preprocess, pixels)[0]


def examine_all(sources: Sequence[ImageSource], preprocess: Preprocess, pixels: bool = True) -> list[Examined]:
    """Examine several pictures in less time than one by one, with the same results.

    Pictures are decoded one after another, and resized and hashed in batches, which costs fewer calls.
    """
    enough = max(preprocess.resolution, *map(max, preprocess.shapes))
    every: list[_Opened] = []
    batch: list[_Opened] = []  # decoded and not yet resized
    num_pixels = 0
    with pillow_warnings_ignored:
        for source in sources:
            opened = _open_source(source, preprocess, enough)
            every.append(opened)
            if opened.picture is not None:
                batch.append(opened)
                num_pixels += opened.picture.width * opened.picture.height
            if num_pixels >= _BATCH_PIXELS:
                _resize(batch, pixels)
                batch, num_pixels = [], 0
        _resize(batch, pixels)
    hashes = perceptual_hashes([opened.thumbnail for opened in every])
    return [_examined(opened, *hashed) for opened, hashed in zip(every, hashes, strict=True)]


@dataclass(slots=True)
class _Opened:
    """A picture between decoding and resizing."""

    sha256: str
    reason: str = ""  # why it cannot be used
    picture: Image.Image | None = None  # until it is resized
    shape: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()
    thumbnail: NDArray[np.uint8] = field(default_factory=lambda: NOTHING)  # for its hash
    pixels: NDArray[np.uint8] | None = None


def _open_source(source: ImageSource, preprocess: Preprocess, enough: int) -> _Opened:
    """Read, hash and decode one picture, and choose its aspect bucket."""
    sha256 = ""
    try:
        content = source.read()
        sha256 = hashlib.sha256(content).hexdigest()
        picture, notes, size = decode_image(content, enough, preprocess.options)
        shape = nearest_bucket(picture.size, preprocess.shapes)
        _require_size(picture.size, shape, preprocess.options)
        return _Opened(sha256, "", picture, shape, size, notes)
    except FileError as error:
        return _Opened(sha256, str(error))
    except MemoryError:
        return _Opened(sha256, TOO_LARGE)


def _resize(batch: Sequence[_Opened], pixels: bool) -> None:
    """Resize decoded pictures, make their thumbnails, and drop them."""
    pictures = [opened.picture for opened in batch if opened.picture is not None]
    try:
        for opened, picture in zip(batch, pictures, strict=True):
            opened.thumbnail = thumbnail(picture)
        if pixels:
            shapes, thumbnails = [opened.shape for opened in batch], [opened.thumbnail for opened in batch]
            for opened, array in zip(batch, crop_and_resize_all(pictures, shapes, thumbnails), strict=True):
                opened.pixels = array
    except MemoryError:
        if len(batch) == 1:
            batch[0].reason = TOO_LARGE
        else:  # leave out only the one that is too large
            for opened in batch:
                _resize([opened], pixels)
    for opened in batch:
        opened.picture = None


def _examined(opened: _Opened, phash: int, color_grid: bytes) -> Examined:
    if opened.reason:
        return Examined(opened.sha256, opened.reason)
    notes = opened.notes
    if "without color" not in notes and _is_gray(opened.thumbnail, color_grid):
        notes = (*notes, "without color")
    facts = ImageFacts(opened.sha256, *opened.size, phash, color_grid, notes)
    return Examined(opened.sha256, "", facts, opened.shape, opened.pixels)


def read_picture(path: Path) -> Image.Image:
    """Read a picture file as upright sRGB, mode RGB, transparency over white. Raises PictureError."""
    try:
        return decode_image(read_file(path))[0]
    except FileError as error:
        raise PictureError(str(error)) from None


def decode_image(content: bytes, at_least: int = 0, options: DataConfig | None = None) -> Decoded:
    """Decode the bytes of a picture file to upright sRGB. Raises PictureError.

    Args:
        at_least: shorter side in pixels that is enough; large JPEGs are then decoded at a fraction of their size.
    """
    return _decode_whole(content, at_least, options or DataConfig())[0]


def decode_with_alpha(content: bytes) -> tuple[Image.Image, Image.Image | None]:
    """Decode a picture file as `decode_image`, over white, and its opacity, mode L; None if it is opaque.

    Raises PictureError.
    """
    decoded, alpha = _decode_whole(content, 0, DataConfig(), with_alpha=True)
    return decoded.picture, alpha


def _decode_whole(
    content: bytes, at_least: int, options: DataConfig, *, with_alpha: bool = False
) -> tuple[Decoded, Image.Image | None]:
    """Decode the bytes of a picture file, without its texts and color profile if Pillow refuses it for these."""
    try:
        return _decode(content, at_least, options, with_alpha=with_alpha)
    except PictureError as error:
        reduced = without_texts(content) if str(error).startswith(DAMAGED) else None
        if reduced is None:
            raise
    decoded, alpha = _decode(reduced.content, at_least, options, reduced.profile, with_alpha=with_alpha)
    return (decoded._replace(notes=(*decoded.notes, reduced.note)) if reduced.note else decoded), alpha


def _decode(
    content: bytes, at_least: int, options: DataConfig, profile: bytes | None = None, *, with_alpha: bool
) -> tuple[Decoded, Image.Image | None]:
    """Decode the bytes of a picture file; `profile` is a color profile that was taken out of it."""
    image = _open(content)
    if profile is not None:
        image.info["icc_profile"] = profile
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureError(f"more than {MAX_PIXELS // 10**6} megapixels")
    notes = _notes(image, content)
    if image.format == "PNG":
        transparent_color(image, content)
    if ANIMATED in notes and options.animations == "skip":
        raise PictureError("an animation or several pages")
    if at_least and min(width, height) >= 4 * at_least and image.format in ("JPEG", "MPO"):
        image.draft(None, (2 * at_least, 2 * at_least))
    guard = one_at_a_time if width * height > _LARGE_PIXELS else nullcontext()
    with guard:
        try:
            image.load()
            upright = _upright(image)
            if upright is not image:
                notes = (*notes, "turned upright by its EXIF orientation")
            picture, transparent = to_rgb(upright, parse_color(options.alpha_color))
            if transparent:
                notes = (*notes, f"transparent, laid over {options.alpha_color}")
            swapped = (width < height) != (picture.width < picture.height) and picture.width != picture.height
            alpha = upright.convert("RGBA").getchannel("A") if with_alpha and transparent else None
            return Decoded(picture, notes, (height, width) if swapped else (width, height)), alpha
        except PictureError:
            raise
        except Exception as error:  # decoders raise errors of many types; none may stop a run
            cut = "truncated" in str(error).lower() or "too short" in str(error).lower()
            raise PictureError(DAMAGED + ("the file is cut short" if cut else "it cannot be decoded")) from None


def _open(content: bytes) -> Image.Image:
    if not content:
        raise PictureError("the file is empty")
    try:
        with pillow_warnings_ignored:
            return Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise PictureError(f"more than {MAX_PIXELS // 10**6} megapixels") from None
    except Exception:
        head = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        reason = next((reason for at, mark, reason in _SIGNATURES if head[at:].startswith(mark)), None)
        raise PictureError(reason or "not a picture that can be read") from None


def _notes(image: Image.Image, content: bytes) -> tuple[str, ...]:
    notes = []
    if _is_animated(image):
        notes.append(ANIMATED)
    if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;"):
        notes.append("without color")
    if image.mode == "CMYK":
        notes.append("CMYK, converted to RGB")
    if image.format == "PNG" and b"IEND" not in content[-256:]:
        notes.append("the end of the file is missing, but the picture is whole")
    return tuple(notes)


def _is_animated(image: Image.Image) -> bool:
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second picture does no harm
        return False


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION) in range(2, 9) else image
    except Exception:  # damaged EXIF: the orientation is unknown
        return image


def _is_gray(thumbnail: NDArray[np.uint8], color_grid: bytes) -> bool:
    for red, green, blue in zip(*(color_grid[channel::3] for channel in range(3)), strict=True):
        if abs(red - green) > GRAY or abs(red - blue) > GRAY:
            return False  # 16 pixels settle it for most pictures
    channels = thumbnail.astype(np.int16).transpose(2, 0, 1)
    return bool(np.abs(channels[0] - channels[1]).max() <= GRAY and np.abs(channels[2] - channels[1]).max() <= GRAY)


def _require_size(size: tuple[int, int], shape: tuple[int, int], options: DataConfig) -> None:
    short, long = sorted(size)
    if options.min_size:
        if short < options.min_size:
            raise PictureError(f"smaller than {options.min_size} pixels")
    elif size[0] < shape[1] / 2 or size[1] < shape[0] / 2:
        side = f"of {shape[0]} pixels" if shape[0] == shape[1] else f"of {shape[1]}x{shape[0]} pixels"
        raise PictureError(f"smaller than half the training size {side}")
    if long > options.max_aspect * short:
        raise PictureError(f"aspect ratio above {options.max_aspect:g}:1")
