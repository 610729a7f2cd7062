from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tintype.data.images.facts import FACTS
from tintype.data.images.perceptual_hash import near_duplicates, perceptual_hash


def scene(seed: int, size: int = 96) -> Image.Image:
    """Soft blobs of color: a picture with a structure of its own."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def groups(pictures: list[Image.Image]) -> list[list[int]]:
    looks, thumbs = zip(*map(perceptual_hash, pictures), strict=True)
    return near_duplicates(seen(looks, np.frombuffer(b"".join(thumbs), dtype=np.uint8).reshape(-1, 48)))


def seen(looks: Sequence[int], thumbs: NDArray[np.uint8]) -> NDArray[Any]:
    rows = np.zeros(len(looks), dtype=FACTS)
    rows["look"], rows["thumb"] = np.array(looks, dtype=np.uint64), thumbs
    return rows


def test_a_picture_scaled_brightened_or_compressed_is_found_and_others_are_not() -> None:
    pictures = [scene(seed) for seed in range(60)]
    changed = pictures[7].resize((50, 50), Image.Resampling.BILINEAR)
    brighter = Image.fromarray(np.clip(np.asarray(pictures[20], dtype=int) + 4, 0, 255).astype(np.uint8))
    noise = np.random.default_rng(0).normal(0, 3, (96, 96, 3))
    noisy = Image.fromarray(np.clip(np.asarray(pictures[7]) + noise, 0, 255).astype(np.uint8))
    assert groups([*pictures, changed, brighter, noisy]) == [[7, 60, 62], [20, 61]]


def test_another_color_is_another_picture() -> None:
    picture = scene(1).convert("L")
    gray, red = (
        Image.merge("RGB", bands) for bands in ((picture,) * 3, (picture, picture, picture.point(lambda v: v // 3)))
    )
    assert groups([gray, red]) == []


def test_flat_pictures_have_no_look() -> None:
    assert perceptual_hash(Image.new("RGB", (40, 40), "red"))[0] == 0
    assert groups([Image.new("RGB", (40, 40), "red")] * 3) == []


def test_many_of_one_look_are_one_group() -> None:
    assert groups([scene(3)] * 300) == [list(range(300))]


def test_nothing_is_like_nothing() -> None:
    assert near_duplicates(np.zeros(0, dtype=FACTS)) == []


@settings(deadline=None, max_examples=50)
@given(base=st.integers(1, 2**64 - 1), flips=st.sets(st.integers(0, 63), max_size=8))
def test_hashes_up_to_four_bits_apart_are_found(base: int, flips: set[int]) -> None:
    other = base
    for bit in flips:
        other ^= 1 << bit
    pairs = near_duplicates(seen([base, other], np.zeros((2, 48), dtype=np.uint8)))
    assert pairs == ([[0, 1]] if len(flips) <= 4 and other else [])
