"""File types by suffix."""

from __future__ import annotations

from importlib.util import find_spec

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".apng"}
) | (frozenset({".heic", ".heif"}) if find_spec("pillow_heif") is not None else frozenset())
CAPTION_SUFFIXES = (".txt", ".caption")  # the first that exists is used
COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
TABLE_SUFFIXES = (".jsonl", ".json", ".json1", ".ndjson", ".csv", ".tsv")
HEIF = "HEIC files: pip install 'tintype[heif]', or convert to PNG or JPEG"
_UNSUPPORTED = frozenset(
    {".jxl", ".psd", ".svg", ".eps", ".jp2", ".tga", ".ico", ".raw", ".dng", ".cr2", ".nef", ".arw", ".heic", ".heif"}
)


def unsupported(suffix: str) -> str:
    """The reason why pictures with this suffix cannot be read; "" for all other suffixes."""
    if suffix not in _UNSUPPORTED or suffix in PICTURE_SUFFIXES:
        return ""
    return HEIF if suffix in (".heic", ".heif") else f"{suffix} files cannot be read: convert to PNG or JPEG"
