"""Hugging Face data sets: by name on the hub, or a folder that `save_to_disk` wrote."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tintype.config import DataConfig
from tintype.data.sources.captions import CAPTION_FIELDS, row_captions
from tintype.data.sources.files import FileError, ImageSource, SourceRoot, one_line, read_file
from tintype.data.sources.names import substitute
from tintype.data.sources.pair_list import PairList
from tintype.data.sources.pairs import Listing, Pair, Problem
from tintype.data.sources.parquet import PICTURE_COLUMNS
from tintype.errors import DataError, MissingExtraError
from tintype.printable import printable


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """The column of pictures of a data set."""

    data: Any  # a datasets.Dataset; pictures are not decoded
    name: str
    fingerprint: bytes
    roots: tuple[Path, ...] = ()  # folders in which files named by cells may lie

    def deserialize(self, values: list[Any]) -> ImageSource:
        return Row(self, values[0])


@dataclass(frozen=True, slots=True)
class Row:
    """The picture in one row of a data set."""

    column: Column
    index: int

    @property
    def fingerprint(self) -> bytes:
        return self.column.fingerprint + b"|%d" % self.index

    @property
    def archive_path(self) -> str:
        return ""

    @property
    def fork_safe(self) -> bool:
        return False

    def read(self) -> bytes:
        """Raises FileError."""
        try:
            cell = self.column.data[self.index][self.column.name]
            if cell["bytes"] is None:
                return self._read_path(Path(cell["path"]))
            content = cell["bytes"]
        except FileError:
            raise
        except Exception as error:  # a row without a picture, a file that is gone, a damaged table
            raise FileError(f"cannot be read: {one_line(error)}") from None
        return bytes(content)

    def _read_path(self, path: Path) -> bytes:
        """Read the file that a cell names, if it belongs to the data set. Raises FileError."""
        file = path.resolve()
        if not any(file.is_relative_to(root) for root in self.column.roots):
            raise FileError("its path leads outside the data set")
        return read_file(file)

    def serialize(self) -> tuple[SourceRoot, list[Any]]:
        return self.column, [self.index]


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of a Dataset or a DatasetDict wrote this folder."""
    single = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return single or (folder / "dataset_dict.json").is_file()


def list_hub(name: str, options: DataConfig) -> Listing:
    """List the captioned pictures of a data set, NAME or NAME:SPLIT ("train" by default), which may be downloaded.

    Raises DataError if it cannot be loaded or its columns are unknown; MissingExtraError without `datasets`.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "tintype[hub]") from None
    path, split = (name, "") if is_saved(Path(name)) else _name_and_split(name)
    try:
        if is_saved(Path(path)):
            data: Any = datasets.load_from_disk(path)
            if isinstance(data, dict):
                data = _choose_split(data, name, split or "train")
        else:
            data = datasets.load_dataset(path, split=split or "train")
    except DataError:
        raise
    except Exception as error:  # a wrong name, the network, damaged files
        raise DataError(f"the data set {printable(name)} cannot be loaded: {one_line(error)}") from None
    return _listing(data, name, _roots(path), options)


def _name_and_split(name: str) -> tuple[str, str]:
    path, _, split = name.partition(":")
    return path, split


def _choose_split(data: dict[str, Any], name: str, split: str) -> Any:
    if split not in data:
        first = next(iter(data), "train")
        has = ", ".join(data)
        raise DataError(
            f"the data set {printable(name)} has no split {printable(split)}; it has: {has} (hf:FOLDER:{first})"
        )
    return data[split]


def _roots(path: str) -> tuple[Path, ...]:
    """The folder of a saved data set; for one by name, where `datasets` and the hub keep their files."""
    if Path(path).is_dir():
        return (Path(path).resolve(),)
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    caches = (home, *(os.environ[name] for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE") if name in os.environ))
    return tuple(Path(cache).expanduser().resolve() for cache in caches)


def _listing(data: Any, name: str, roots: tuple[Path, ...], options: DataConfig) -> Listing:
    import datasets

    column = next((name for name in PICTURE_COLUMNS if name in data.column_names), "")
    caption_columns = [name for name in CAPTION_FIELDS if name in data.column_names]
    if not column or not caption_columns:
        has = ", ".join(data.column_names[:6])
        raise DataError(f"the data set {printable(name)} needs the columns image and text; it has: {has}")
    data = data.cast_column(column, datasets.Image(decode=False))
    fingerprint = "|".join(str(Path(file["filename"]).stat().st_mtime_ns) for file in data.cache_files).encode()
    pictures = Column(data, column, fingerprint, roots)
    pairs, problems = PairList(), []
    for index, values in enumerate(data.select_columns(caption_columns)):
        key = f"{index:08d}"
        captions, reason = row_captions(values)
        captions = captions or substitute(options, key, reason)
        if captions:
            pairs.append(Pair(key, Row(pictures, index), captions))
        else:
            problems.append(Problem(key, reason))
    return Listing(pairs, tuple(problems), len(pairs) + len(problems))
