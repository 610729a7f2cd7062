import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tintype.data.images.decode import PictureError, decode_image, examine, examine_all, preprocess_for, read_picture
from tintype.data.images.perceptual_hash import thumbnail
from tintype.data.sources.files import LocalFile


def source(path: Path) -> LocalFile:
    return LocalFile(str(path.parent), path.name, b"")


def gradient(width: int = 48, height: int = 32) -> Image.Image:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x * 5, y * 7, (x + y) * 3], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def reason(content: bytes) -> str:
    with pytest.raises(PictureError) as caught:
        decode_image(content)
    return str(caught.value)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG", "AVIF"])
def test_usual_formats(format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    picture = decode_image(encoded(gradient(), format, **options))[0]
    error = np.abs(np.asarray(picture, dtype=int) - np.asarray(gradient(), dtype=int))
    assert picture.size == (48, 32)
    assert error.max() == 0 if format in ("PNG", "BMP", "TIFF", "WEBP") else error.mean() < 8


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(gradient(), "PNG"))
    assert read_picture(path).getpixel((3, 2)) == gradient().getpixel((3, 2))


@pytest.mark.parametrize("keep", [0.5, -20, -2])
def test_truncated_jpeg(keep: float) -> None:
    content = encoded(gradient(), "JPEG")
    cut = content[: int(len(content) * keep)] if keep > 0 else content[: int(keep)]
    assert reason(cut) == ("damaged: the file is cut short" if keep < 0 else "damaged: its header cannot be read")


def test_truncated_jpeg_is_noticed_at_a_fraction_of_its_size_too() -> None:
    content = encoded(gradient(800, 800), "JPEG")
    assert decode_image(content, 32)[0].size[0] < 800
    with pytest.raises(PictureError, match="cut short"):
        decode_image(content[:-500], 32)


def test_png_without_its_end_is_used_with_a_note() -> None:
    content = encoded(gradient())
    picture, notes, _ = decode_image(content[:-12])
    assert picture.getpixel((9, 9)) == gradient().getpixel((9, 9))
    assert any("end of the file" in note for note in notes)


def test_png_with_a_flipped_bit() -> None:
    content = bytearray(encoded(gradient()))
    content[content.index(b"IDAT") + 30] ^= 4
    assert reason(bytes(content)).startswith("damaged")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404", "HTML"),
        (b"\n\n<html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
        (b"<svg xmlns='x'></svg>", "SVG"),
        (b"<?xml version='1.0'?><svg/>", "SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "PostScript"),
        (b"8BPS\x00\x01", "Photoshop"),
        (b"\xff\x0a\x00", "JPEG XL"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "HEIC"),
        (b"hello", "not a picture"),
    ],
)
def test_what_is_not_a_picture_is_named(content: bytes, words: str) -> None:
    assert words in reason(content)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_many_pictures_the_first_is_used_with_a_note(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    picture, notes, _ = decode_image(encoded(frames[0], format, save_all=True, append_images=frames[1:]))
    red, _, blue = picture.getpixel((4, 4))
    assert red > 240 > 15 > blue
    assert any("first" in note for note in notes)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(format: str) -> None:
    upright = Image.new("RGB", (32, 16), "white")
    upright.paste("red", (0, 0, 16, 16))
    for orientation, undone in (
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
        (3, Image.Transpose.ROTATE_180),
    ):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = decode_image(encoded(upright.transpose(undone), format, exif=exif))[0]
        assert picture.size == (32, 16)
        assert picture.getpixel((4, 8))[1] < 60 < 200 < picture.getpixel((28, 8))[1]


@pytest.mark.parametrize("exif", [b"Exif\x00\x00rubbish", b"Exif\x00\x00MM\x00*\x00\x00\xff\xff", 99])
def test_damaged_exif_does_no_harm(exif: bytes | int) -> None:
    if isinstance(exif, int):
        tags = Image.Exif()
        tags[0x0112] = exif
        exif = tags.tobytes()
    assert decode_image(encoded(gradient(), "JPEG", exif=exif))[0].size == (48, 32)


@pytest.mark.parametrize("side", [8_001, 10_000, 20_000, 2**31 - 1])
def test_bombs_are_refused_from_the_header(side: int) -> None:
    assert reason(png_header(side, side)) == "more than 64 megapixels"


def test_a_png_with_huge_compressed_text_is_refused_or_read() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * 20_000_000, zip=True)
    try:
        assert decode_image(encoded(gradient(), pnginfo=info))[0].size == (48, 32)
    except PictureError:
        pass


def test_pipes_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path, tmp_path / "gone.png"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        paths.append(tmp_path / "pipe.png")
    if Path("/dev/zero").exists():
        paths.append(Path("/dev/zero"))
    for path in paths:
        with pytest.raises(PictureError):
            read_picture(path)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(gradient()))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(PictureError, match="permission"):
        read_picture(path)


def test_what_is_seen_does_not_depend_on_what_is_read_with_it(tmp_path: Path) -> None:
    sources = []
    random = np.random.default_rng(1)
    for number in range(12):
        size = (40 + number % 3 * 13, 40)
        path = tmp_path / f"{number}.png"
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        sources.append(source(path))
    (tmp_path / "3.png").write_bytes(b"rubbish")
    together = examine_all(sources, preprocess_for(32))
    for one, other in zip(together, [examine(own, preprocess_for(32)) for own in sources], strict=True):
        assert one[:4] == other[:4]
        assert np.array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize(
    ("size", "words"),
    [((1, 1), "smaller"), ((15, 40), "smaller"), ((1, 5000), "smaller"), ((20, 5000), "aspect ratio")],
)
def test_too_small_and_too_long_are_left_out(tmp_path: Path, size: tuple[int, int], words: str) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", size).save(path)
    assert words in examine(source(path), preprocess_for(32)).reason


def test_examine_never_raises_and_hashes_what_it_could_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"rubbish")
    seen = examine(source(path), preprocess_for(32))
    assert seen.pixels is None
    assert len(seen.sha256) == 64
    assert seen.reason
    assert examine(source(tmp_path / "gone.png"), preprocess_for(32)).sha256 == ""


def test_only_what_is_too_large_for_the_memory_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = []
    for number, side in enumerate((40, 90, 41)):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (side, side), "red").save(path)
        sources.append(source(path))

    def scarce(picture: Image.Image) -> np.ndarray:
        if picture.width > 80:
            raise MemoryError
        return thumbnail(picture)

    monkeypatch.setattr("tintype.data.images.decode.thumbnail", scarce)
    seen = examine_all(sources, preprocess_for(32))
    assert [one.reason for one in seen] == ["", "too large for the memory of this machine", ""]
    assert [one.pixels is not None for one in seen] == [True, False, True]
