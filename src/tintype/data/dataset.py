"""A data set as training sees it: pictures cropped and resized, captions cleaned, unusable pictures listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from PIL import Image

from tintype.config import DataConfig
from tintype.data.check.report import Report
from tintype.data.check.run import RESOLUTION, check_data
from tintype.data.images.decode import examine, preprocess_for
from tintype.data.sources.find import find_pairs
from tintype.data.sources.objects import Data
from tintype.data.sources.pairs import Problem
from tintype.errors import DataError


class Dataset(Sequence[tuple[Image.Image, tuple[str, ...]]]):
    """The captioned pictures of a source, as training sees them.

    `dataset[i]` is (PIL image at the resolution of training, its captions); each access decodes the picture. `keys`
    names each picture, `captions` has the captions of each, `problems` lists the files that are left out or look wrong
    before any picture is opened (`problem.path`, `problem.reason`, `problem.left_out`), and `check()` opens all
    pictures and reports everything, copies and near copies too. A `Dataset` can itself be the data of `tintype.train`.
    """

    def __init__(self, data: Data, resolution: int = RESOLUTION, options: DataConfig | None = None) -> None:
        self._data = data
        self._options = options or DataConfig.of_new_runs()
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
        return check_data(self._data, self._resolution, self._options)

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
        examined = examine(pair.source, self._preprocess)
        if examined.pixels is None:
            raise DataError(f"{pair.key}: {examined.reason}")
        return Image.fromarray(examined.pixels.transpose(1, 2, 0).copy()), pair.captions


def load_dataset(data: Data, resolution: int = RESOLUTION, options: DataConfig | None = None) -> Dataset:
    """Open captioned pictures as training sees them; no picture is decoded yet.

        dataset = tintype.load_dataset("photos", resolution=64)
        image, captions = dataset[0]
        print(len(dataset), captions, [problem.reason for problem in dataset.problems])

    data: what `tintype train` takes (a folder, a .tar, .zip or .parquet file, `hf:NAME`, a list of these) or an object
    (`CaptionedImages`). resolution: pixels, the side of a square training picture. options: how pictures are read,
    `config.data`; None: shapes of nearly equal area, as in a new run.

    Raises DataError if there is no captioned picture.
    """
    return Dataset(data, resolution, options)
