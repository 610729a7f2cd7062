import io

import numpy as np
import pytest
from PIL import Image, ImageCms

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
