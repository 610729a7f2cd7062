"""A data set as training would see it: pictures cropped and resized, captions cleaned, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from PIL import Image

from tintype.config import DataConfig
from tintype.data.check.report import Report
from tintype.data.check.run import RESOLUTION, check
from tintype.data.images.decode import examine, preprocess_for
from tintype.data.sources.find import find_pairs
from tintype.data.sources.objects import Data
from tintype.data.sources.pairs import Problem
from tintype.errors import DataError


class Dataset(Sequence[tuple[Image.Image, tuple[str, ...]]]):
    """The captioned pictures of a source, as training would see them.

    `dataset[i]` is (PIL image at the resolution of training, its captions); the picture is decoded when it is asked
    for. `keys` names each picture, `captions` has the captions of each, `problems` lists what was left out or looks
    wrong before any picture is opened (`problem.path`, `problem.reason`, `problem.left_out`), and `check()` opens all
    pictures and reports everything, copies and near copies too. It can itself be the data of `tintype.train`.
    """

    def __init__(self, data: Data, resolution: int = RESOLUTION, options: DataConfig | None = None) -> None:
        self._data = data
        self._options = options or DataConfig(crop="none")
        self._resolution = resolution
        self._preprocess = preprocess_for(resolution, self._options)
        self._pairs, problems = find_pairs(data, self._options)
        self.problems: tuple[Problem, ...] = tuple(problems)

    @property
    def keys(self) -> list[str]:
        """The name of each picture: its path within the data."""
        return [pair.key for pair in self._pairs]

    @property
    def captions(self) -> list[tuple[str, ...]]:
        """The captions of each picture, one or more."""
        return [pair.captions for pair in self._pairs]

    def check(self) -> Report:
        """Open every picture: `print("\\n".join(report.lines()))` shows what `tintype check` shows."""
        return check(self._data, self._resolution, self._options)

    def __len__(self) -> int:
        return len(self._pairs)

    @overload
    def __getitem__(self, index: int) -> tuple[Image.Image, tuple[str, ...]]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[Image.Image, tuple[str, ...]]]: ...
    def __getitem__(
        self, index: int | slice
    ) -> tuple[Image.Image, tuple[str, ...]] | list[tuple[Image.Image, tuple[str, ...]]]:
        """Raises DataError for a picture that cannot be used."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        pair = self._pairs[index]
        seen = examine(pair.source, self._preprocess)
        if seen.pixels is None:
            raise DataError(f"{pair.key}: {seen.reason}")
        return Image.fromarray(seen.pixels.transpose(1, 2, 0).copy()), pair.captions


def load_dataset(data: Data, resolution: int = RESOLUTION, options: DataConfig | None = None) -> Dataset:
    """Open captioned pictures as training would see them; no picture is decoded yet.

        dataset = tintype.load_dataset("photos", resolution=64)
        image, captions = dataset[0]
        print(len(dataset), captions, [problem.reason for problem in dataset.problems])

    data: what `tintype train` takes (a folder, a .tar, .zip or .parquet file, `hf:NAME`, a list of these) or an object
    (`CaptionedImages`). resolution: pixels, the side of a square training picture. options: how pictures are taken in,
    `config.data`; None: shapes of nearly equal area, as in a new run.

    Raises DataError if there is no captioned picture.
    """
    return Dataset(data, resolution, options)
