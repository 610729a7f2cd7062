"""The dataset cache: decoded pictures and encoded captions, memory-mapped.

A cache is a folder `pack-HASH` with pictures-HxW.npy (uint8 [N, 3, H, W], one file a shape), states.npy (the text
embeddings of all captions, end to end), facts.npy (hash, size and perceptual hash of each picture) and pack.json (the
rest). HASH is the content fingerprint. A small file `stamp-STAMP.json` beside it names the cache of a data set:
STAMP is the source fingerprint, a hash of everything known without reading a picture (names, sizes, times, captions,
settings, the text encoder). So a cache is never stale, and data that were copied or moved share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tintype.data.cache.index import ABOUT, DatasetIndex, open_array
from tintype.data.sources.pairs import Problem
from tintype.errors import DataError
from tintype.printable import printable

STATES_FILE = "states.npy"


def pictures_file(shape: tuple[int, int]) -> str:
    """The file of the pictures of one shape (height, width)."""
    return f"pictures-{shape[0]}x{shape[1]}.npy"


class DatasetCache(DatasetIndex):
    """A finished cache."""

    PREFIX = "pack"

    def __init__(self, folder: Path, problems: Sequence[Problem] = ()) -> None:
        """Open the cache in `folder`; `problems` are those of its data. Raises DataError if damaged."""
        super().__init__(folder, problems)
        self._pictures = [open_array(folder, pictures_file(shape), self.sizes) for shape in self.shapes]
        self._states = open_array(folder, STATES_FILE, self.sizes)
        self._offsets = np.cumsum([0, *self.lengths]).tolist()
        self._rows = np.zeros(self.num_samples, dtype=np.int64)  # of each picture among those of its shape
        for number in range(len(self.shapes)):
            same = self.shape_of == number
            self._rows[same] = np.arange(int(same.sum()))

    def pictures(self, indices: Tensor) -> Tensor:
        """Look up pictures of one shape by their indices [B]: uint8 [B, 3, H, W]."""
        numbers = indices.cpu().numpy()
        shapes = set(self.shape_of[numbers].tolist())
        if len(shapes) > 1:
            raise ValueError("the pictures have several shapes: divide them with by_shape")
        return torch.from_numpy(self._pictures[shapes.pop() if shapes else 0][self._rows[numbers]])

    def text_embeddings(self, indices: Tensor, choice: Tensor) -> list[Tensor]:
        """Look up text embeddings: for each picture in `indices` [B], the embedding of caption `choice` [B].

        `choice` is taken modulo the number of captions. Returns [L_i, D] from the encoder, float16, or
        token ids [L_i] int64. Raises DataError if they are damaged.
        """
        captions = [
            self.choices[index][number % len(self.choices[index])]
            for index, number in zip(indices.tolist(), choice.tolist(), strict=True)
        ]
        if not captions:
            return []
        rows = [self._states[self._offsets[caption] : self._offsets[caption + 1]] for caption in captions]
        return list(torch.split(self._tensor(np.concatenate(rows)), list(map(len, rows))))

    def _tensor(self, embeddings: NDArray[Any]) -> Tensor:
        if embeddings.dtype == np.int32:
            return torch.from_numpy(embeddings.astype(np.int64))
        if not np.isfinite(embeddings).all():
            with suppress(OSError):
                (self.folder / ABOUT).unlink()  # a cache without it is rebuilt
            raise DataError(f"the cache in {printable(str(self.folder))} is damaged: restart training to rebuild it")
        return torch.from_numpy(embeddings)
