"""Captions: text decoded without guessing, brought to one line, one or several for each picture."""

from __future__ import annotations

import codecs
import re
import unicodedata
from typing import Any

from tintype.data.sources.files import FileError

CAPTION_FIELDS = ("text", "caption", "prompt")  # the first that a row has is used
MAX_CAPTION_BYTES = 2**20  # of all captions of one picture together, wherever they stand
TOO_LONG = "its captions are larger than 1 MB"
NO_CAPTION = "it has no caption"
EMPTY = "its caption is empty"
_BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_INVISIBLE = re.compile("[\ufeff\ud800-\udfff]")


def clean_caption(caption: str) -> str:
    """Bring a caption to NFC on one line, without control characters, byte-order marks and lone surrogates."""
    text = _CONTROL.sub(" ", _INVISIBLE.sub("", caption))
    return " ".join(unicodedata.normalize("NFC", text).split())


def decode_text(content: bytes, encoding: str = "utf-8") -> str:
    """Decode text by its byte-order mark; without one, as UTF-8 if it is valid, else as `encoding`.

    Raises FileError rather than guess.
    """
    default = "utf-8-sig" if _is_utf8(content, encoding) else encoding
    codec = next((name for mark, name in _BOMS if content.startswith(mark)), default)
    try:
        return content.decode(codec)
    except (UnicodeDecodeError, ValueError):
        if codec != "utf-8-sig":
            raise FileError(f"its text is not {codec}") from None
        raise FileError("its text is not UTF-8: save it as UTF-8, or give --caption-encoding") from None


def _is_utf8(content: bytes, encoding: str) -> bool:
    """Whether text without another mark is UTF-8: so says `encoding`, or the bytes of its signs beyond ASCII do.

    Text in another encoding is hardly ever valid UTF-8 by chance. ASCII alone says nothing: UTF-7 and UTF-16 may be
    nothing but ASCII bytes.
    """
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig") or content.startswith(codecs.BOM_UTF8):
        return True
    if content.isascii() or b"\0" in content:
        return False
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def parse_captions(text: str) -> tuple[str, ...]:
    """Return the captions in a text, one on each line that is not empty. Raises FileError if there is none."""
    captions = _distinct(text.splitlines())
    if not captions:
        raise FileError(EMPTY)
    return captions


def row_captions(values: dict[str, object]) -> tuple[tuple[str, ...], str]:
    """Return the captions in a row's text, caption or prompt, a string or a list; or () and the reason."""
    field = next((field for field in CAPTION_FIELDS if values.get(field) is not None), None)
    if field is None:
        return (), "the row has no text, caption or prompt"
    value = values[field]
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        return (), f"its {field} is not text"
    size = sum(len(str(text).encode("utf-8", "replace")) for text in texts)
    if size > MAX_CAPTION_BYTES:  # refused before any work: a tokenizer takes a hundred times this size
        return (), TOO_LONG
    captions = _distinct(texts)
    return captions, "" if captions else EMPTY


def _distinct(texts: list[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(caption for caption in map(clean_caption, texts) if caption))
