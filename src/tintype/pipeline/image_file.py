"""Picture files: encode pictures with their receipts inside, read receipts back. A format is one entry in ENCODERS."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from tintype.errors import DataError
from tintype.pipeline.receipt import Receipt

MAX_EXIF = 65_533  # bytes in a JPEG
_UNICODE = b"UNICODE\0"  # marks UTF-16 in the EXIF tag UserComment


class SavedReceipt(Protocol):
    """What made a picture, in both forms that a file holds."""

    def to_json(self) -> str: ...

    def parameters(self) -> str: ...


def encode(picture: Image.Image, receipt: SavedReceipt | None, suffix: str, quality: int = 100) -> bytes:
    """The picture as a file of the format that `suffix` names, with its receipt inside.

    PNG has the receipt as text chunks, JPEG and WebP as EXIF (ImageDescription and UserComment). A JPEG has room for
    64 KB of it: of a longer one only the JSON is stored, or nothing.

    quality: 0 to 100, for JPEG and WebP; WebP is lossless at 100. Raises KeyError for an unknown suffix.
    """
    return ENCODERS[suffix.lower()](picture, receipt, quality)


def has_receipt(content: bytes, receipt: SavedReceipt) -> bool:
    """Whether `encode` had room for the receipt in this file."""
    return receipt.to_json().encode() in content


def _png(picture: Image.Image, receipt: SavedReceipt | None, quality: int) -> bytes:
    info = PngInfo()
    if receipt is not None:
        info.add_text("parameters", receipt.parameters())
        info.add_text("tintype", receipt.to_json())
    buffer = BytesIO()
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def _webp(picture: Image.Image, receipt: SavedReceipt | None, quality: int) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "WEBP", quality=quality, lossless=quality == 100, exif=_exif(receipt))
    return buffer.getvalue()


def _jpeg(picture: Image.Image, receipt: SavedReceipt | None, quality: int) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=max(1, quality), subsampling=0, exif=_exif(receipt, MAX_EXIF))
    return buffer.getvalue()


ENCODERS: dict[str, Callable[[Image.Image, SavedReceipt | None, int], bytes]] = {
    ".png": _png,
    ".webp": _webp,
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
}


def _exif(receipt: SavedReceipt | None, max_bytes: int | None = None) -> bytes:
    """Both forms of a receipt, or as much as there is room for."""
    if receipt is None:
        return b""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = receipt.to_json()
    short = exif.tobytes()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UNICODE + receipt.parameters().encode("utf-16-be")
    content = exif.tobytes()
    if max_bytes is None or len(content) <= max_bytes:
        return content
    return short if len(short) <= max_bytes else b""


def read_texts(path: Path) -> dict[str, str]:
    """The texts inside a picture by name, `tintype` and `parameters` among them; its pixels are not decoded.

    Raises DataError if it is not a readable PNG, JPEG or WebP.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about size or damaged EXIF; only the header is read
            with Image.open(path, formats=["PNG", "JPEG", "WEBP"]) as picture:
                texts: dict[Any, Any] = dict(picture.info) if picture.format == "PNG" else _exif_texts(picture)
    except Exception:  # Pillow raises errors of many types for damaged files
        raise DataError(f"{path} is not a readable PNG, JPEG or WebP; only these carry receipts") from None
    return {str(name): text for name, text in texts.items() if isinstance(text, str)}


def _exif_texts(picture: Image.Image) -> dict[str, str]:
    exif = picture.getexif()
    texts = {}
    description = exif.get(ExifTags.Base.ImageDescription)
    if isinstance(description, str) and description.startswith("{"):
        texts["tintype"] = description
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if isinstance(comment, bytes) and comment.startswith(_UNICODE):
        texts["parameters"] = comment.removeprefix(_UNICODE).decode("utf-16-be", "replace")
    return texts


def read_receipt(path: Path) -> Receipt:
    """The receipt inside a picture. Raises DataError, with the reason, if there is none."""
    texts = read_texts(path)
    if "tintype" not in texts:
        raise DataError(f"{path} carries no Tintype receipt: it was not made by Tintype, or was saved again since")
    try:
        return Receipt.from_json(texts["tintype"])
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
