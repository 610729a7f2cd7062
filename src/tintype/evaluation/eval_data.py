"""Evaluation data: captioned pictures of a model, divided into those it was trained on and unseen ones."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tintype.config import Config
from tintype.data.cache.builder import CaptionEncoder, Progress
from tintype.data.cache.dataset_cache import DatasetCache
from tintype.data.cache.fingerprints import source_fingerprint
from tintype.data.cache.open_or_build import build_cache
from tintype.data.cache.squares import resized, resized_blocks, square_blocks, squares
from tintype.data.images.decode import Preprocess, preprocess_for
from tintype.data.sources.exclude import Exclusions
from tintype.data.sources.find import dataset_name, find_pairs
from tintype.data.sources.pairs import Pair
from tintype.data.split import held_out_mask
from tintype.diffusion.noise import EvalSubset, Purpose, permutation
from tintype.errors import ConfigError, DataError
from tintype.evaluation.shapes_accuracy import is_shapes_data
from tintype.model.file_names import CACHE_FOLDER, DATA
from tintype.model.read_file import MAX_RECORD_BYTES, read_text
from tintype.model.store import Model

_DRAWN_KEY = re.compile(r"(?:^|/)images/[0-9]{6,}\.png$")
MIN_PICTURES = 20  # fewer pictures are too few for a conclusion


@dataclass(frozen=True)
class EvalData:
    """Captioned pictures, some of which the model was trained on."""

    name: str
    dataset: DatasetCache  # all pictures
    seen: Tensor  # indices of the training pictures in `pack`
    unseen: Tensor  # indices of all others
    is_drawn: bool = False  # whether they are pictures that `tintype shapes` drew, which a program can judge
    has_record: bool = True  # whether the model's data.json lists its training pictures
    notes: tuple[str, ...] = field(default=())

    def captions(self, indices: Tensor) -> list[str]:
        """The first caption of each picture."""
        dataset = self.dataset
        return [dataset.unique[dataset.choices[index][0]] for index in indices.tolist()]

    def pictures(self, indices: Tensor) -> Tensor:
        """Pictures of one shape: uint8 [N, 3, H, W]."""
        return self.dataset.pictures(indices)

    def squares(self, indices: Tensor, side: int) -> Tensor:
        """Pictures of any shape, resized to side x side: uint8 [N, 3, side, side]."""
        return squares(self.dataset, indices, side)

    def resized(self, indices: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures of any shape, resized to (height, width): uint8 [N, 3, height, width]."""
        return resized(self.dataset, indices, *size)

    def blocks(self, indices: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
        """`resized` in blocks that bound memory."""
        return resized_blocks(self.dataset, indices, *size)

    def square_blocks(self, indices: Tensor, side: int) -> Iterator[Tensor]:
        """`squares` in blocks that bound memory."""
        return square_blocks(self.dataset, indices, side)


def choose_subset(indices: Tensor, num: int, seed: int, subset: EvalSubset) -> Tensor:
    """A random subset of at most `num` of the indices, ascending."""
    if len(indices) <= num:
        return indices
    return indices[permutation(seed, Purpose.MEASURED, subset, len(indices))[:num]].sort().values


def open_eval_data(
    model: Model, config: Config, encoder: CaptionEncoder, data: str | None, scratch: Path
) -> Generator[Progress, None, EvalData]:
    """Open the captioned pictures in `data`; without `data`, the cache that a run keeps.

    Reuses a cache in the run or in `scratch`; otherwise writes one without text embeddings to `scratch`.
    Raises ConfigError if there is no data to evaluate on, DataError if the data cannot be read.
    """
    folder = model.run or model.folder
    record = _record(folder / DATA)
    if data is None:
        dataset = _run_cache(folder / CACHE_FOLDER, record)
        if dataset is None:
            raise ConfigError(f"{model.name} has no readable cache; give --data with the pictures it was trained on")
        name = folder.resolve().name
        is_marked = record is not None and record.is_drawn
    else:
        pairs, problems = find_pairs(data, config.data)
        preprocess = preprocess_for(config.net.resolution, config.data, config.net.multiple)
        cache, reader = _cache_folder(folder / CACHE_FOLDER, pairs, preprocess, encoder, scratch)
        dataset = yield from build_cache(pairs, preprocess, cache, reader, problems)
        name = dataset_name(data)
        is_marked = dataset.is_drawn
    split = _split_by_record(name, dataset, config.train.held_out, record)
    return replace(split, is_drawn=_is_drawn(dataset, is_marked))


def recorded_pictures(model: Model) -> list[str] | None:
    """The sha256 of every picture that the data.json of a model lists, held-out ones too; None without such a list."""
    record = _record((model.run or model.folder) / DATA)
    return None if record is None else sorted(record.sha256)


def training_pictures(sha256: Sequence[str], model: Model, config: Config) -> list[str]:
    """Those of the pictures with these hashes that a model was trained on, as `open_eval_data` tells them."""
    record = _record((model.run or model.folder) / DATA)
    held_out = held_out_mask(sha256, config.train.held_out)
    pairs = zip(sha256, held_out, strict=True)
    return [digest for digest, held in pairs if not held and (record is None or digest in record.sha256)]


def _is_drawn(dataset: DatasetCache, is_marked: bool) -> bool:
    """Whether data are pictures that `tintype shapes` drew, perhaps several sources of them, and nothing else.

    Older versions left no mark: their folders are known by the names of pictures.
    """
    return (is_marked or all(map(_DRAWN_KEY.search, dataset.keys))) and is_shapes_data(dataset.unique)


def _split_by_record(name: str, dataset: DatasetCache, held_out_fraction: float, record: _Record | None) -> EvalData:
    """Split pictures as training does; those that the record does not list count as unseen."""
    training, held_out = dataset.split(held_out_fraction)
    if record is None:
        note = f"this model has no {DATA}: assuming it was trained on {name} with the same pictures held out"
        return EvalData(name, dataset, training, held_out, has_record=False, notes=(note,))
    sha256 = dataset.sha256
    is_recorded = torch.tensor([sha256[index] in record.sha256 for index in training.tolist()], dtype=torch.bool)
    unlisted = training[~is_recorded]
    notes = []
    if len(unlisted):
        notes.append(f"{len(unlisted):,} of {dataset.num_samples:,} pictures were not trained on; they count as unseen")
    unseen = torch.cat([held_out, unlisted]).sort().values
    return EvalData(name, dataset, training[is_recorded], unseen, notes=tuple(notes))


class _Record(NamedTuple):
    """What data.json says of the training of a model."""

    sha256: frozenset[str]  # of the pictures
    fingerprint: str | None  # of it all
    is_drawn: bool  # whether the data had the mark of drawn pictures


def _record(path: Path) -> _Record | None:
    """The record of a model; None without one, or if it lists no pictures. Raises DataError if it is damaged."""
    if not path.is_file():
        return None
    try:
        record = json.loads(read_text(path, MAX_RECORD_BYTES))
        sha256 = frozenset(str(row["sha256"]) for row in record["samples"])
        fingerprint = record.get("fingerprint")
        is_drawn = record.get("drawn_shapes") is True
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{path} is damaged; restore it from a backup") from None
    return _Record(sha256, fingerprint if isinstance(fingerprint, str) else None, is_drawn) if sha256 else None


def _run_cache(folder: Path, record: _Record | None) -> DatasetCache | None:
    """The cache of a run that matches its record."""
    for path in sorted(folder.glob("pack-*")) if record is not None else []:
        try:
            dataset = DatasetCache(path)
        except DataError:  # damaged, or of another version
            continue
        if record is not None and dataset.fingerprint == record.fingerprint:
            return dataset
    return None


def _cache_folder(
    run_cache: Path, pairs: Sequence[Pair], preprocess: Preprocess, encoder: CaptionEncoder, scratch: Path
) -> tuple[Path, CaptionEncoder]:
    """The folder of the cache, present or to be written, and the text encoder for its captions."""
    stamp = source_fingerprint(pairs, preprocess, encoder.identity, Exclusions())[:16]
    for folder in (run_cache, scratch):
        if (folder / f"stamp-pack-{stamp}.json").is_file():
            return folder, encoder
    return scratch, _NoEncoder()


class _NoEncoder:
    """A stand-in for the text encoder: an evaluation encodes only the captions it measures."""

    identity = "unread"

    def text_embeddings(self, captions: Sequence[str]) -> list[Tensor]:
        return [torch.zeros(1, dtype=torch.int64) for _ in captions]
