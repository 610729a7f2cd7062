"""The dataset index: keys, captions, hashes and weights of the training pictures; the held-out split; data.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tintype.data.check.report import Report
from tintype.data.check.summary import Tokens, summarize
from tintype.data.images.facts import FACTS, hex_digests
from tintype.data.order import Order
from tintype.data.sides import names_side
from tintype.data.sources.pairs import Pair, Problem
from tintype.data.sources.shapes_mark import DRAWN
from tintype.data.split import held_out_mask
from tintype.errors import DataError
from tintype.printable import printable

FORMAT = 3  # of caches; a higher number makes older caches be rebuilt
DATA_FORMAT = 1  # of data.json
ABOUT, FACTS_FILE = "pack.json", "facts.npy"


class DatasetIndex:
    """The samples of a finished cache, without their pixels and text embeddings."""

    PREFIX = "catalog"  # of names on disk, which older versions know

    def __init__(self, folder: Path, problems: Sequence[Problem] = ()) -> None:
        """Open the index in `folder`; `problems` are those of its data. Raises DataError if it is damaged."""
        self.folder = folder
        about = read_index(folder)
        self.fingerprint: str = about["fingerprint"]  # sha256 of the content
        self.resolution: int = about["resolution"]
        self.keys: list[str] = about["keys"]
        self.problems: list[Problem] = list(problems)
        self.notes: dict[str, int] = about["notes"]  # conversions, and the number of pictures of each
        self.facts = open_array(folder, FACTS_FILE, about["sizes"]).view(FACTS).reshape(-1)
        self.sizes: dict[str, int] = about["sizes"]  # of the files, bytes
        self.lengths: list[int] = about["lengths"]  # rows of text embeddings of each unique caption
        self.shapes: list[tuple[int, int]] = [(rows, columns) for rows, columns in about["shapes"]]
        self.shape_of: NDArray[np.int64] = np.asarray(about["shape_of"], dtype=np.int64)  # of each picture
        self.weights: Tensor | None = None
        if about["weights"] is not None:
            self.weights = torch.tensor(about["weights"], dtype=torch.float64)
        self.unique: list[str] = about["captions"]
        self.choices: list[list[int]] = about["choices"]  # for each picture, indices into the unique captions
        self._sided: Tensor | None = None  # which pictures have a caption that names a side, once that is asked
        self.unreadable: dict[str, None] = {}  # keys of pictures that can no longer be read, in order

    @property
    def num_samples(self) -> int:
        return len(self.keys)

    @property
    def captions(self) -> list[tuple[str, ...]]:
        """The captions of each picture."""
        return [tuple(self.unique[i] for i in choices) for choices in self.choices]

    @property
    def sha256(self) -> list[str]:
        """The sha256 of each picture file."""
        return hex_digests(self.facts["sha256"])

    @property
    def is_drawn(self) -> bool:
        """Whether the data have the mark of pictures that `tintype shapes` drew."""
        return any(problem.reason == DRAWN for problem in self.problems)

    def order(self, seed: int, indices: Tensor) -> Order:
        """The order in which a run of `seed` shows the samples `indices`; it counts them from 0."""
        return Order(seed, len(indices), None if self.weights is None else self.weights[indices])

    def mirrorable(self, indices: Tensor) -> Tensor:
        """Whether the pictures at `indices` [B] may be mirrored, because no caption of theirs names a side: bool."""
        if self._sided is None:
            sided = [names_side(caption) for caption in self.unique]
            self._sided = torch.tensor([any(sided[caption] for caption in choices) for choices in self.choices])
        return ~self._sided[indices.cpu()]

    def by_shape(self, indices: Tensor) -> list[Tensor]:
        """Divide a batch of `indices` [B] by the shape of its pictures: rows of the batch, ascending in each part."""
        shapes = self.shape_of[indices.cpu().numpy()]
        return [torch.from_numpy(np.flatnonzero(shapes == shape)) for shape in sorted(set(shapes.tolist()))]

    def split(self, share: float) -> tuple[Tensor, Tensor]:
        """Divide the pictures into training and held-out pictures: indices, int64 each, ascending.

        The content of each file alone decides, so that added pictures do not change the split, and exact copies never
        lie on both sides. At least one picture is trained on; of 20 and more, at least one is held out.
        """
        mask = torch.tensor(held_out_mask(self.sha256, share), dtype=torch.bool)
        return (~mask).nonzero()[:, 0], mask.nonzero()[:, 0]

    def report(self, data: str, pairs: Sequence[Pair], held_out: float, tokens: Tokens | None = None) -> Report:
        """The check report of `data`, from whose `pairs` this index was built."""
        by_key = {pair.key: pair for pair in pairs}
        used = [by_key[key] for key in self.keys]
        return summarize(data, used, self.facts, self.problems, Counter(self.notes), tokens, held_out)

    def data_json(self) -> dict[str, Any]:
        """The content of a run's data.json: the pictures trained on, with hashes, and those left out, with reasons."""
        return {
            "format": DATA_FORMAT,
            "fingerprint": self.fingerprint,
            "resolution": self.resolution,
            "num_samples": self.num_samples,
            "samples": [
                {"key": key, "sha256": sha256, "captions": list(captions)}
                | ({} if self.weights is None else {"weight": float(self.weights[number])})
                for number, (key, sha256, captions) in enumerate(
                    zip(self.keys, self.sha256, self.captions, strict=True)
                )
            ],
            **({"drawn_shapes": True} if self.is_drawn else {}),
            "left_out": [{"path": p.path, "reason": p.reason} for p in self.problems if p.left_out],
            "warnings": [{"path": p.path, "reason": p.reason} for p in self.problems if not p.left_out],
        }


def read_index(folder: Path) -> dict[str, Any]:
    """The content of pack.json. Raises DataError."""
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"there is no finished cache in {printable(str(folder))}") from None
    if about.get("format") != FORMAT:
        raise DataError(f"the cache in {printable(str(folder))} has another version: delete it")
    return about


def open_array(folder: Path, name: str, sizes: dict[str, int]) -> NDArray[Any]:
    """Memory-map an array of a cache. Raises DataError if its size has changed."""
    path = folder / name
    try:
        if path.stat().st_size != sizes[name]:
            raise ValueError("its size has changed")
        array: NDArray[Any] = np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except (OSError, ValueError, KeyError):
        raise DataError(f"the cache is damaged: delete {printable(str(folder))} and restart") from None
    return array
