import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tintype.model.aspect_buckets import FULL, SPACING, bucket_shapes, nearest_bucket


@settings(deadline=None)
@given(side=st.integers(1, 24), patch=st.sampled_from([2, 4, 8]), max_aspect=st.floats(1, 8))
def test_shapes_have_about_as_many_tokens_as_the_square(side: int, patch: int, max_aspect: float) -> None:
    shapes = bucket_shapes(side * patch, patch, max_aspect)
    assert (side * patch, side * patch) in shapes
    assert sorted((width, height) for height, width in shapes) == sorted(shapes)
    for height, width in shapes:
        assert height % patch == 0
        assert width % patch == 0
        assert FULL * side**2 <= height * width / patch**2 <= side**2
        assert max(height, width) <= max_aspect * min(height, width)
    assert len(shapes) <= 1 + 2 * (1 + math.log(max_aspect) / SPACING)


@pytest.mark.parametrize(
    ("size", "shape"), [((100, 100), (64, 64)), ((200, 100), (40, 88)), ((100, 160), (80, 48)), ((5, 1), (32, 128))]
)
def test_a_picture_goes_to_the_shape_nearest_to_its_own(size: tuple[int, int], shape: tuple[int, int]) -> None:
    assert nearest_bucket(size, bucket_shapes(64, 8, 4.0)) == shape
