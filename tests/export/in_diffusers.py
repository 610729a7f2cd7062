"""What the tests of an exported folder in diffusers share."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from PIL import Image

CAPTIONS = ["a red circle", "a blue square left of a green star", "東京"]
SEEDS = [7, 8, 9]
MARKS = [
    pytest.mark.skipif(find_spec("diffusers") is None, reason="needs diffusers, of the extra bench"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # of diffusers itself
]


def require_newer(diffusers: Any) -> None:
    """Skip what diffusers 0.35 does otherwise, which the documentation says."""
    major, minor, *_ = diffusers.__version__.split(".")
    if (int(major), int(minor)) < (0, 42):
        pytest.skip("this version of diffusers is too old")


def difference(one: list[Image.Image], other: list[Image.Image]) -> int:
    """The largest difference of a pixel, in levels of 255."""
    pairs = zip(one, other, strict=True)
    return max(int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max()) for a, b in pairs)
