import numpy as np
import pytest
from PIL import Image

from tintype.data.images.resize import crop_and_resize


def pixels_of(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).transpose(2, 0, 1)


def gradient(width: int = 48, height: int = 32) -> Image.Image:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x * 5, y * 7, (x + y) * 3], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 96), (65, 64)])
def test_crop_and_resize_takes_the_centre_square(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, "blue")
    left, top = (size[0] - 64) // 2, (size[1] - 64) // 2
    picture.paste("red", (left, top, left + 64, top + 64))
    pixels = crop_and_resize(picture, (32, 32))
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == np.uint8
    assert pixels[0, 2:-2, 2:-2].min() > 250
    assert pixels[2, 2:-2, 2:-2].max() < 5


def test_crop_and_resize_is_antialiased_and_exact_at_its_own_size() -> None:
    board = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    assert np.abs(crop_and_resize(board, (16, 16)).astype(int) - 127).max() <= 3
    picture = gradient(32, 32)
    assert np.array_equal(crop_and_resize(picture, (32, 32)), pixels_of(picture))


@pytest.mark.parametrize("size", [(128, 128), (50, 37), (24, 24), (150, 40)])
def test_crop_and_resize_gives_the_values_of_pillow(size: tuple[int, int]) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    shape = (32, round(32 * size[0] / size[1]))
    want = pixels_of(noise.resize(shape[::-1], Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(crop_and_resize(noise, shape) - want).max() <= 2


def test_large_pictures_are_reduced_to_about_the_same() -> None:
    scene = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    scene = scene.resize((1000, 1000), Image.Resampling.BICUBIC)
    want = pixels_of(scene.resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(crop_and_resize(scene, (64, 64)) - want).max() <= 6
