"""Pictures that are sent in, decoded with limits, and pictures that are sent out, encoded."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from tintype.data.images.decode import PictureError, decode_image
from tintype.errors import DataError
from tintype.pipeline.receipt import Receipt
from tintype.serving.api.errors import Fault, invalid
from tintype.view.contact_sheet import Frame

Format = Literal["png", "jpeg", "webp"]
PIECE = 2**18  # characters of base64 that are read at once: while they are, no other thread can run
MAX_SIDE = 8192  # pixels of a picture that is sent in


def from_base64(text: str, param: str) -> bytes:
    """The bytes of base64 or of a data: URL with it. Raises Fault."""
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise invalid(f"{param} must be base64", param, "invalid_image")
    elif "://" in text[:20]:
        raise invalid(
            f"{param} must be the picture itself as base64: addresses are not fetched", param, "invalid_image"
        )
    try:
        starts = range(0, len(text), PIECE)
        return b"".join(base64.b64decode(text[start : start + PIECE], validate=True) for start in starts)
    except (binascii.Error, ValueError):
        raise invalid(f"{param} must be base64", param, "invalid_image") from None


def read(content: bytes, param: str) -> Image.Image:
    """Decode a picture, mode RGB. Raises Fault."""
    _require_small(content, param)
    try:
        return decode_image(content)[0]
    except PictureError as error:
        raise invalid(f"{param} cannot be used: {error}", param, "invalid_image") from None


def read_mask(content: bytes, param: str) -> Image.Image:
    """Decode a mask, mode L, white where to paint: what is transparent, or else what is white. Raises Fault."""
    _require_small(content, param)
    plain = read(content, param)
    with Image.open(io.BytesIO(content)) as image:
        alpha = image.convert("RGBA").getchannel("A")
    if alpha.getextrema() == (255, 255):
        return plain.convert("L")
    return alpha.point([255 - value for value in range(256)])


def _require_small(content: bytes, param: str) -> None:
    """Sizes are in the header: a small file that unfolds into a huge picture is never unfolded."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if max(image.size) > MAX_SIDE:
                raise Fault(413, f"{param} is larger than {MAX_SIDE} pixels on a side", "image_too_large", param)
    except Image.DecompressionBombError:
        raise Fault(413, f"{param} has too many pixels", "image_too_large", param) from None
    except Fault:
        raise
    except Exception:  # whatever is wrong with it, decoding says it better
        return


def receipt_of(content: bytes) -> Receipt | None:
    """The receipt inside a PNG, if there is one that can be read."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            text = image.info.get("tintype")
        return None if not isinstance(text, str) else Receipt.from_json(text)
    except (OSError, ValueError, SyntaxError, DataError, Image.DecompressionBombError):
        return None


def guess_of(frame: Frame, row: int) -> Image.Image:
    """What the model believes picture `row` to be at a step."""
    return Image.fromarray(frame.guess[row].permute(1, 2, 0).contiguous().numpy())


def strip(frame: Frame) -> bytes:
    """A step as one PNG: a row per picture, with what went in, the guess, and the noise identified side by side."""
    rows = [torch.cat([frame.noisy, frame.guess, frame.noise], dim=3)[i] for i in range(len(frame.guess))]
    return _png(torch.cat(rows, dim=1))


def _png(pixels: Tensor) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
