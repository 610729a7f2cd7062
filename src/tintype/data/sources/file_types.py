"""File types, by suffix and by their first bytes."""

from __future__ import annotations

from importlib.util import find_spec

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".apng"}
) | (frozenset({".heic", ".heif"}) if find_spec("pillow_heif") is not None else frozenset())
CAPTION_SUFFIXES = (".txt", ".caption")  # the first that exists is used
COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
TABLE_SUFFIXES = (".jsonl", ".json", ".json1", ".ndjson", ".csv", ".tsv")
HEAD_BYTES = 16  # of a file, by which a picture without a known suffix is recognized
HEIF = "HEIC files: pip install 'tintype[heif]', or convert to PNG or JPEG"
_RAW = frozenset(  # of cameras; many of them begin like a TIFF file, which holds a thumbnail
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mos .nef .nrw .orf .pef .raf .raw .rw2 .srw".split()
)
_UNSUPPORTED = _RAW | {".jxl", ".psd", ".svg", ".eps", ".jp2", ".tga", ".ico", ".heic", ".heif"}
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})  # sizes of the second header of a BMP file, bytes


def unsupported(suffix: str) -> str:
    """The reason why pictures with this suffix cannot be read; "" for all other suffixes."""
    if suffix not in _UNSUPPORTED or suffix in PICTURE_SUFFIXES:
        return ""
    return HEIF if suffix in (".heic", ".heif") else f"{suffix} files cannot be read: convert to PNG or JPEG"


def is_picture(head: bytes) -> bool:
    """Whether a file that begins with `head`, its first HEAD_BYTES bytes, is in a format that can be decoded."""
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")):
        return True
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):  # TIFF
        return True
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    if head.startswith(b"BM"):
        return len(head) == HEAD_BYTES and int.from_bytes(head[14:16], "little") in _BMP_HEADERS
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    return brand in (b"avif", b"avis") or (brand in (b"heic", b"heix", b"mif1") and ".heic" in PICTURE_SUFFIXES)
