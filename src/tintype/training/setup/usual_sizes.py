"""The usual sizes of the training pictures, recorded in the model: the default size of its pictures, and of samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tintype.config import Config
from tintype.config.sizes import MAX_SIZES, size_text
from tintype.data.cache.index import DatasetIndex

MIN_SHARE = 0.1  # of the training pictures, from which on their size is recorded


def with_usual_sizes(config: Config, dataset: DatasetIndex) -> Config:
    """The configuration with the sizes of at least MIN_SHARE of the training pictures, the most usual first."""
    num = len(dataset.shapes)
    shares = np.bincount(dataset.shape_of, None if dataset.weights is None else dataset.weights.numpy(), num)
    shares = shares / max(shares.sum(), 1e-12)
    order = sorted(range(num), key=lambda shape: (-shares[shape], dataset.shapes[shape]))
    usual = [dataset.shapes[shape] for shape in order if shares[shape] >= MIN_SHARE][:MAX_SIZES] or dataset.shapes[:1]
    is_square = usual == [(config.net.resolution, config.net.resolution)]
    sizes = "" if is_square else " ".join(size_text((width, height)) for height, width in usual)
    return replace(config, sample=replace(config.sample, sizes=sizes))
