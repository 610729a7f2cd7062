"""Captions as people keep them: text files beside the pictures, metadata.jsonl, metadata.csv."""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path

from tintype.data.sources.files import FileError, read_file

CAPTION_FIELDS = ("text", "caption", "prompt")  # the first that a row has is used
MAX_CAPTION_BYTES = 2**20
NO_CAPTION = "it has no caption"
EMPTY = "its caption is empty"
_BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNWANTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_INVISIBLE = re.compile("[\ufeff\ud800-\udfff]")


def clean_caption(caption: str) -> str:
    """Bring a caption to NFC on one line, without control characters, byte-order marks and lone surrogates."""
    text = _UNWANTED.sub(" ", _INVISIBLE.sub("", caption))
    return " ".join(unicodedata.normalize("NFC", text).split())


def decode_text(content: bytes, encoding: str = "utf-8") -> str:
    """Decode text that begins with a byte-order mark by it, and other text as `encoding`.

    Raises FileError rather than guess.
    """
    plain = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    marked = next((name for mark, name in _BOMS if content.startswith(mark)), plain)
    try:
        return content.decode("utf-8-sig" if content.startswith(codecs.BOM_UTF8) else marked)
    except (UnicodeDecodeError, ValueError):
        if marked != "utf-8-sig":
            raise FileError(f"its text is not {marked}") from None
        raise FileError("its text is not UTF-8: save it as UTF-8, or give --caption-encoding") from None


def parse_captions(text: str) -> tuple[str, ...]:
    """The captions in a text: each line that is not empty is a caption of its own. Raises FileError if none is."""
    lines = [clean_caption(line) for line in text.splitlines()]
    captions = tuple(dict.fromkeys(line for line in lines if line))
    if not captions:
        raise FileError(EMPTY)
    return captions


def read_caption_file(path: Path | str, encoding: str = "utf-8") -> tuple[str, ...]:
    """Read the captions of one picture, one a line. Raises FileError."""
    return parse_captions(decode_text(read_file(path, MAX_CAPTION_BYTES), encoding))


def row_captions(values: dict[str, object]) -> tuple[tuple[str, ...], str]:
    """The captions that a record has under text, caption or prompt: one, or a list; else () and the reason."""
    field = next((field for field in CAPTION_FIELDS if values.get(field) is not None), None)
    if field is None:
        return (), "the row has no text, caption or prompt"
    value = values[field]
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        return (), f"its {field} is not text"
    captions = tuple(dict.fromkeys(caption for caption in map(clean_caption, texts) if caption))
    return captions, "" if captions else EMPTY
