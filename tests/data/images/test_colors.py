import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from tintype.config import DataConfig
from tintype.data.images.decode import PictureError, decode_image

RED = (200, 30, 40)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def pixel(content: bytes, x: int = 0, y: int = 0) -> tuple[int, ...]:
    picture = decode_image(content)[0]
    assert picture.mode == "RGB"
    return picture.getpixel((x, y))


def reason(content: bytes) -> str:
    with pytest.raises(PictureError) as caught:
        decode_image(content)
    return str(caught.value)


def test_cmyk_is_converted_with_a_note() -> None:
    picture, notes, _ = decode_image(encoded(Image.new("CMYK", (40, 40), (0, 0, 0, 0)), "JPEG"))
    assert min(picture.getpixel((5, 5))) > 250
    assert any("CMYK" in note for note in notes)


def test_a_wide_gamut_profile_is_applied() -> None:
    # A profile whose red and blue are swapped leaves no doubt whether it was used.
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    at = profile.index("sRGB".encode("utf-16-be"))
    profile[at : at + 8] = "test".encode("utf-16-be")
    for mode, color in (("RGB", (255, 0, 0)), ("RGBA", (255, 0, 0, 255))):
        content = encoded(Image.new(mode, (8, 8), color), icc_profile=bytes(profile))
        assert np.allclose(pixel(content), (0, 0, 255), atol=3)


@pytest.mark.parametrize("profile", [b"rubbish", ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()])
def test_a_profile_that_does_not_fit_is_ignored(profile: bytes) -> None:
    assert pixel(encoded(Image.new("RGB", (8, 8), RED), icc_profile=profile)) == RED


def test_sixteen_bit_gray_keeps_its_range() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    values = np.asarray(decode_image(encoded(Image.fromarray(ramp)))[0])[..., 0]
    assert np.array_equal(values.ravel(), np.arange(256))


@pytest.mark.parametrize("scale", [1.0, 255.0, -1.0, np.nan])
def test_float_tiff_is_scaled_or_refused(scale: float) -> None:
    content = encoded(Image.fromarray(np.full((8, 8), 0.5 * scale, dtype=np.float32)), "TIFF")
    if scale == 1.0:
        assert pixel(content) == (128, 128, 128)
    else:
        assert "pixel values" in reason(content)


def test_32_bit_integers_are_refused() -> None:
    assert "32-bit" in reason(encoded(Image.fromarray(np.full((8, 8), 10**6, dtype=np.int32)), "TIFF"))


@pytest.mark.parametrize(("mode", "color", "want"), [("1", 1, 255), ("L", 90, 90), ("LA", (90, 255), 90)])
def test_gray_becomes_rgb_with_a_note(mode: str, color: object, want: int) -> None:
    picture, notes, _ = decode_image(encoded(Image.new(mode, (8, 8), color)))
    assert picture.getpixel((0, 0)) == (want,) * 3
    assert "without color" in notes


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_over_white(format: str) -> None:
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    for alpha, want in ((0, (255, 255, 255)), (255, RED), (128, (227, 142, 147))):
        content = encoded(Image.new("RGBA", (8, 8), (*RED, alpha)), format, **options)
        assert np.allclose(pixel(content), want, atol=1)
    assert pixel(encoded(Image.new("LA", (8, 8), (0, 0)))) == (255, 255, 255)


def test_palette_and_color_key_transparency() -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, *RED])
    assert pixel(encoded(palette)) == RED
    assert pixel(encoded(palette, transparency=b"\xff\x00")) == (255, 255, 255)
    assert pixel(encoded(palette, "GIF", transparency=1)) == (255, 255, 255)
    assert pixel(encoded(Image.new("RGB", (8, 8), RED), transparency=RED)) == (255, 255, 255)
    assert pixel(encoded(Image.new("L", (8, 8), 7), transparency=7)) == (255, 255, 255)


def png_of(depth: int, color_type: int, row: bytes, transparent: bytes, width: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, 1, depth, color_type, 0, 0, 0)
    body = chunk(b"tRNS", transparent) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


@pytest.mark.parametrize(
    ("depth", "color_type", "row", "transparent", "second"),
    [
        (16, 0, struct.pack(">2H", 0, 100 * 257), struct.pack(">H", 0), (100, 100, 100)),
        (16, 0, struct.pack(">2H", 1000, 1001), struct.pack(">H", 1000), (4, 4, 4)),  # no bit of 16 is lost
        (8, 0, bytes([7, 200]), struct.pack(">H", 7), (200, 200, 200)),
        (4, 0, bytes([0x35]), struct.pack(">H", 3), (85, 85, 85)),
        (2, 0, bytes([0b10_01_0000]), struct.pack(">H", 2), (85, 85, 85)),
        (1, 0, bytes([0b01_000000]), struct.pack(">H", 0), (255, 255, 255)),
        (16, 2, struct.pack(">6H", 1000, 0, 0, 100 * 257, 0, 0), struct.pack(">3H", 1000, 0, 0), (100, 0, 0)),
    ],
)
def test_the_transparent_color_of_every_depth(
    depth: int, color_type: int, row: bytes, transparent: bytes, second: tuple[int, ...]
) -> None:
    content = png_of(depth, color_type, row, transparent)
    picture, notes, _ = decode_image(content, options=DataConfig(alpha_color="#010203"))
    assert [picture.getpixel((x, 0)) for x in (0, 1)] == [(1, 2, 3), second]
    assert "transparent, laid over #010203" in notes


def swapped_profile(extra: int) -> bytes:
    """A profile whose red and blue are swapped, with `extra` zeros after it."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    at = profile.index("sRGB".encode("utf-16-be"))
    profile[at : at + 8] = "test".encode("utf-16-be")
    return bytes(profile) + b"\0" * extra


def test_a_large_profile_is_used_and_one_beyond_all_measure_is_named() -> None:
    picture = Image.new("RGB", (8, 8), (255, 0, 0))
    large = encoded(picture, icc_profile=swapped_profile(1_500_000))
    assert np.allclose(pixel(large), (0, 0, 255), atol=3)
    huge, notes, _ = decode_image(encoded(picture, icc_profile=swapped_profile(20_000_000)))
    assert huge.getpixel((0, 0)) == (255, 0, 0)
    assert "its color profile is larger than 16 MB and not used" in notes


@pytest.mark.parametrize("compressed", [True, False])
def test_large_texts_do_not_hide_a_picture(compressed: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 2_000_000, zip=compressed)
    info.add_itxt("more", "y" * 2_000_000, zip=compressed)
    content = encoded(Image.new("RGB", (8, 8), RED), pnginfo=info)
    assert pixel(content) == RED
    assert "damaged" in reason(content[:-40])
