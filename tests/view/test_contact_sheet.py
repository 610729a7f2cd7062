"""Films of many or large steps within a number of pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tintype.view.contact_sheet import Frame, animation, encode_film, film_pages, indexed, within_pixels


def frames_of(num: int, num_pictures: int, side: int) -> list[Frame]:
    pixels = torch.zeros(num_pictures, 3, side, side, dtype=torch.uint8)
    return [Frame(f"{i + 1}/{num}", 1.0, pixels, pixels, pixels) for i in range(num)]


def film_of(frames: list[Frame], max_pixels: int) -> tuple[tuple[int, int], list[str]]:
    """Size of the pages, and the labels of the frames."""
    frames, cell = within_pixels(frames, max_pixels)
    sizes = {page.size for page in film_pages(frames, cell)}
    assert len(sizes) == 1
    return sizes.pop(), [frame.label for frame in frames]


def test_a_film_within_the_limit_is_that_of_the_command_line() -> None:
    frames = frames_of(3, 1, 16)
    few, cell = within_pixels(frames, 10**7)
    assert encode_film(film_pages(few, cell), len(few)) == animation(frames)


@pytest.mark.parametrize(("num", "num_pictures", "side"), [(120, 4, 64), (100, 10, 64), (30, 4, 300), (7, 1, 512)])
@pytest.mark.slow
def test_pictures_shrink_first_and_then_steps_are_left_out(num: int, num_pictures: int, side: int) -> None:
    frames = frames_of(num, num_pictures, side)
    (width, height), labels = film_of(frames, 10**9)
    assert len(labels) == num
    (less_width, less_height), less_labels = film_of(frames, int(0.9 * num * width * height))
    assert len(less_labels) == num
    assert (less_width, less_height) < (width, height)
    limit = num * less_width * less_height // 4
    (last_width, last_height), last_labels = film_of(frames, limit)
    assert 2 <= len(last_labels) < num
    assert len(last_labels) * last_width * last_height <= limit
    assert (last_labels[0], last_labels[-1]) == (labels[0], labels[-1])


def test_a_page_in_256_colors_is_near_the_page() -> None:
    y, x = np.mgrid[:100, :100].astype(np.uint8)
    page = Image.fromarray(np.stack([2 * x, 2 * y, x + y], -1))
    page.paste((235, 235, 235), (0, 0, 30, 3))
    reduced = indexed(page)
    assert reduced.mode == "P"
    error = np.abs(np.asarray(reduced.convert("RGB"), dtype=int) - np.asarray(page, dtype=int))
    assert error.mean() < 8


def test_an_error_between_pages_ends_the_film() -> None:
    class Stop(Exception):
        pass

    def pages() -> object:
        yield from list(film_pages(frames_of(2, 1, 8)))
        raise Stop

    with pytest.raises(Stop):
        encode_film(pages(), 5)  # type: ignore[arg-type]
    film = Image.open(io.BytesIO(encode_film(film_pages(frames_of(1, 1, 8)), 1)))
    assert film.format == "GIF"
