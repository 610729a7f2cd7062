"""Images of requests and responses: uploads decoded within limits, steps as PNG."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from PIL import Image
from torch import Tensor

from tintype.data.images.decode import FORMATS, MAX_PIXELS, PictureError, decode_image, decode_with_alpha
from tintype.data.images.png import without_texts
from tintype.errors import DataError
from tintype.pipeline.receipt import Receipt
from tintype.serving.api.errors import ApiError, bad_request
from tintype.view.contact_sheet import Frame

CHUNK = 2**18  # characters of base64 that are decoded at once: no other thread runs meanwhile


def base64_bytes(text: str, param: str) -> bytes:
    """Decode base64, or a data: URL with base64. Raises ApiError."""
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise bad_request(f"{param} must be base64", param, "invalid_image")
    elif "://" in text[:20]:
        message = f"{param} must be the image itself as base64; this server does not fetch URLs"
        raise bad_request(message, param, "invalid_image")
    try:
        starts = range(0, len(text), CHUNK)
        return b"".join(base64.b64decode(text[start : start + CHUNK], validate=True) for start in starts)
    except (binascii.Error, ValueError):
        raise bad_request(f"{param} must be base64", param, "invalid_image") from None


def decode(content: bytes, param: str) -> Image.Image:
    """Decode an image, mode RGB. Raises ApiError."""
    _check_size(content, param)
    with _api_errors(param):
        return decode_image(content).picture


def decode_mask(content: bytes, param: str, *, opaque: bool = False) -> Image.Image:
    """Decode a mask, mode L, white where to repaint: where it is transparent, or where it is white. Raises ApiError.

    opaque: repaint where it is opaque instead, as A1111 does, unless all of it is.
    """
    _check_size(content, param)
    with _api_errors(param):
        picture, alpha = decode_with_alpha(content)
    if alpha is None:
        return picture.convert("L")
    return alpha if opaque else alpha.point([255 - value for value in range(256)])


def decode_base64(text: str, param: str) -> Image.Image:
    """Decode an image in base64, mode RGB. Raises ApiError."""
    return decode(base64_bytes(text, param), param)


def decode_base64_mask(text: str, param: str) -> Image.Image:
    """Decode a mask in base64, as `decode_mask`. Raises ApiError."""
    return decode_mask(base64_bytes(text, param), param)


@contextmanager
def _api_errors(param: str) -> Iterator[None]:
    try:
        yield
    except PictureError as error:
        raise bad_request(f"{param} cannot be used: {error}", param, "invalid_image") from None


def _pixels_only(content: bytes) -> bytes:
    """The file without the texts and profile of a PNG, for which Pillow refuses it when they are large."""
    reduced = without_texts(content)
    return content if reduced is None else reduced.content


def _check_size(content: bytes, param: str) -> None:
    """Read the size from the header, so that a small file with a huge image is never decoded."""
    try:
        with Image.open(io.BytesIO(_pixels_only(content)), formats=FORMATS) as image:
            too_large = image.width * image.height > MAX_PIXELS
    except Image.DecompressionBombError:
        too_large = True
    except Exception:  # decoding reports any other error better
        return
    if too_large:
        raise ApiError(413, f"{param} has more than {MAX_PIXELS // 10**6} megapixels", "image_too_large", param)


def read_texts(content: bytes) -> dict[str, str]:
    """The texts inside a PNG by name, `parameters` and `tintype` among them; none of another file."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            return {str(name): text for name, text in image.info.items() if isinstance(text, str)}
    except Exception:  # Pillow raises errors of many types for damaged files
        return {}


def read_receipt(content: bytes) -> Receipt | None:
    """The receipt inside a PNG; None if it has none, or one that cannot be read."""
    try:
        return Receipt.from_json(read_texts(content)["tintype"])
    except (KeyError, DataError):
        return None


def guess_image(frame: Frame, row: int) -> Image.Image:
    """The model's guess of picture `row` at a step."""
    return Image.fromarray(frame.guess[row].permute(1, 2, 0).contiguous().numpy())


def strip_png(frame: Frame) -> bytes:
    """A step as one PNG, a row per picture: noisy picture, guess and predicted noise side by side."""
    rows = [torch.cat([frame.noisy, frame.guess, frame.noise], dim=3)[i] for i in range(len(frame.guess))]
    return _png(torch.cat(rows, dim=1))


def _png(pixels: Tensor) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
