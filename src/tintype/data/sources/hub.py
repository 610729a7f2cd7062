"""Data sets of the Hugging Face package `datasets`: saved in a folder, or by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tintype.config import DataConfig
from tintype.data.sources.captions import CAPTION_FIELDS, row_captions
from tintype.data.sources.files import FileError, ImageSource, SourceRoot, printable
from tintype.data.sources.pair_list import PairList
from tintype.data.sources.pairs import Listing, Pair, Problem, substitute
from tintype.data.sources.parquet import PICTURE_COLUMNS
from tintype.errors import DataError, MissingExtraError


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """The pictures of a data set."""

    data: Any  # a datasets.Dataset whose column of pictures is not decoded
    name: str
    fingerprint: bytes

    def deserialize(self, values: list[Any]) -> ImageSource:
        return Row(self, values[0])


@dataclass(frozen=True, slots=True)
class Row:
    """A picture in a data set."""

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
            content = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
        except Exception as error:  # a row without a picture, a file that is gone, a damaged table
            raise FileError(f"cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from None
        return bytes(content)

    def serialize(self) -> tuple[SourceRoot, list[Any]]:
        return self.column, [self.index]


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of a Dataset, or of a DatasetDict, wrote this folder."""
    alone = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return alone or (folder / "dataset_dict.json").is_file()


def list_hub(name: str, options: DataConfig) -> Listing:
    """The captioned pictures of a data set, NAME or NAME:SPLIT; without a split, "train". Fetched if not here.

    Raises DataError if there is no such data set, or its columns are unknown; MissingExtraError without `datasets`.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "tintype[hub]") from None
    path, split = (name, "") if is_saved(Path(name)) else _parted(name)
    try:
        if is_saved(Path(path)):
            data: Any = datasets.load_from_disk(path)
            if isinstance(data, dict):
                data = _split_of(data, name, split or "train")
        else:
            data = datasets.load_dataset(path, split=split or "train")
    except DataError:
        raise
    except Exception as error:  # of the network, of the name, of the files
        raise DataError(f"the data set {printable(name)} cannot be loaded: {' '.join(str(error).split())}") from None
    return _listing(data, name, options)


def _parted(name: str) -> tuple[str, str]:
    path, _, split = name.partition(":")
    return path, split


def _split_of(data: dict[str, Any], name: str, split: str) -> Any:
    if split not in data:
        first = next(iter(data), "train")
        has = ", ".join(data)
        raise DataError(
            f"the data set {printable(name)} has no split {printable(split)}; it has: {has} (hf:FOLDER:{first})"
        )
    return data[split]


def _listing(data: Any, name: str, options: DataConfig) -> Listing:
    import datasets

    column = next((own for own in PICTURE_COLUMNS if own in data.column_names), "")
    texts = [own for own in CAPTION_FIELDS if own in data.column_names]
    if not column or not texts:
        has = ", ".join(data.column_names[:6])
        raise DataError(f"the data set {printable(name)} needs the columns image and text; it has: {has}")
    data = data.cast_column(column, datasets.Image(decode=False))
    state = "|".join(str(Path(file["filename"]).stat().st_mtime_ns) for file in data.cache_files).encode()
    pictures = Column(data, column, state)
    pairs, problems = PairList(), []
    for index, values in enumerate(data.select_columns(texts)):
        key = f"{index:08d}"
        captions, reason = row_captions(values)
        captions = captions or substitute(options.no_caption, key, reason)
        if captions:
            pairs.append(Pair(key, Row(pictures, index), captions))
        else:
            problems.append(Problem(key, reason))
    return Listing(pairs, tuple(problems), len(pairs) + len(problems))
