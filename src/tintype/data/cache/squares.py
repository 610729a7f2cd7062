"""Pictures of a cache in one size, whatever their shapes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from tintype.data.cache.dataset_cache import DatasetCache

BLOCK_VALUES = 2**22  # numbers in a block of pictures: bounds memory


def resized(dataset: DatasetCache, indices: Tensor, height: int, width: int) -> Tensor:
    """Pictures of any shape, resized to one: uint8 [N, 3, height, width]."""
    same = torch.empty(len(indices), 3, height, width, dtype=torch.uint8)
    for rows in dataset.by_shape(indices):
        pictures = dataset.pictures(indices[rows])
        if tuple(pictures.shape[-2:]) != (height, width):
            scaled = F.interpolate(pictures.float(), size=(height, width), mode="area")
            pictures = scaled.round().clamp(0, 255).to(torch.uint8)
        same[rows] = pictures
    return same


def squares(dataset: DatasetCache, indices: Tensor, side: int) -> Tensor:
    """Pictures of any shape, resized to side x side: uint8 [N, 3, side, side]."""
    return resized(dataset, indices, side, side)


def resized_blocks(dataset: DatasetCache, indices: Tensor, height: int, width: int) -> Iterator[Tensor]:
    """`resized` in blocks that bound memory."""
    step = max(16, BLOCK_VALUES // (3 * height * width))
    for rows in torch.split(indices, step):
        yield resized(dataset, rows, height, width)


def square_blocks(dataset: DatasetCache, indices: Tensor, side: int) -> Iterator[Tensor]:
    """`squares` in blocks that bound memory."""
    return resized_blocks(dataset, indices, side, side)
