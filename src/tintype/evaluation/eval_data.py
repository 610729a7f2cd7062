"""What a model is evaluated on: its pictures and captions, and which of them it has never seen."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tintype.config import Config
from tintype.data.cache.builder import Progress, StatesEncoder
from tintype.data.cache.dataset_cache import Pack
from tintype.data.cache.fingerprints import stamp_of
from tintype.data.cache.open_or_build import packing
from tintype.data.images.decode import Preprocess, preprocess_for
from tintype.data.sources.exclude import Exclusions
from tintype.data.sources.find import dataset_name, find_pairs
from tintype.data.sources.pairs import Pair
from tintype.diffusion.noise import EvalSubset, Purpose, permutation
from tintype.errors import ConfigError, DataError
from tintype.metrics.memorization import BLOCK_VALUES
from tintype.model.store import Model

DATA, PACKS = "data.json", "pack"


@dataclass(frozen=True)
class EvalData:
    """Captioned pictures of a model.

    `pack` holds them all; `seen` and `unseen` are indices into it.
    """

    name: str
    pack: Pack
    seen: Tensor
    unseen: Tensor
    known: bool = True  # whether it is on record what the model was trained on
    notes: tuple[str, ...] = field(default=())

    def captions(self, indices: Tensor) -> list[str]:
        """The first caption of each picture."""
        pack = self.pack
        return [pack.unique[pack.choices[index][0]] for index in indices.tolist()]

    def pictures(self, indices: Tensor) -> Tensor:
        """Pictures of one shape, uint8 [N, 3, H, W]."""
        return self.pack.pictures(indices)

    def squares(self, indices: Tensor, side: int) -> Tensor:
        """Pictures of any shape brought to side x side: uint8 [N, 3, side, side]."""
        found = torch.empty(len(indices), 3, side, side, dtype=torch.uint8)
        for places in self.pack.by_shape(indices):
            pictures = self.pack.pictures(indices[places])
            if tuple(pictures.shape[-2:]) != (side, side):
                scaled = F.interpolate(pictures.float(), size=(side, side), mode="area")
                pictures = scaled.round().clamp(0, 255).to(torch.uint8)
            found[places] = pictures
        return found

    def blocks(self, indices: Tensor, side: int) -> Iterator[Tensor]:
        """`squares` of many, some at a time."""
        step = max(16, BLOCK_VALUES // (3 * side * side))
        for start in range(0, len(indices), step):
            yield self.squares(indices[start : start + step], side)


def choose_subset(indices: Tensor, num: int, seed: int, subset: EvalSubset) -> Tensor:
    """`num` of the pictures, chosen by the seed, ascending; all where there are no more."""
    if len(indices) <= num:
        return indices
    return indices[permutation(seed, Purpose.MEASURED, subset, len(indices))[:num]].sort().values


def open_eval_data(
    model: Model, config: Config, encoder: StatesEncoder, data: str | None, scratch: Path
) -> Generator[Progress, None, EvalData]:
    """Open the captioned pictures in `data`, or, for a run and without `data`, what it is trained on.

    A training copy that the run keeps, or that is in `scratch`, is used as it is; otherwise one without text is made
    there. Raises ConfigError if there is nothing to evaluate on, DataError if the data cannot be read.
    """
    place = model.run or model.folder
    record = _record(place / DATA)
    if data is None:
        pack = _run_cache(place / PACKS, record)
        if pack is None:
            raise ConfigError(
                f"{model.name} keeps no copy of its pictures that can be read: give --data, what it was made from"
            )
        name = place.resolve().name
    else:
        pairs, problems = find_pairs(data, config.data)
        preprocess = preprocess_for(config.net.resolution, config.data, config.net.patch)
        folder, reader = _cache_folder(place / PACKS, pairs, preprocess, encoder, scratch)
        pack = yield from packing(pairs, preprocess, folder, reader, problems)
        name = dataset_name(data)
    return _split_by_record(name, pack, config.train.held_out, record)


def _split_by_record(name: str, pack: Pack, share: float, record: dict[str, Any] | None) -> EvalData:
    """Tell what was trained on from what was not: as training does, and never what is not on record."""
    shown, held_out = pack.split(share)
    if record is None:
        note = f"there is no {DATA} with this model; taken as made from {name}, with the same pictures held out"
        return EvalData(name, pack, shown, held_out, known=False, notes=(note,))
    recorded = {row["sha256"] for row in record["samples"]}
    sha256 = pack.sha256
    known = torch.tensor([sha256[index] in recorded for index in shown.tolist()], dtype=torch.bool)
    strangers = shown[~known]
    notes = []
    if len(strangers):
        notes.append(f"{len(strangers):,} of {pack.num_samples:,} pictures were never trained on; they count as unseen")
    unseen = torch.cat([held_out, strangers]).sort().values
    return EvalData(name, pack, shown[known], unseen, notes=tuple(notes))


def _record(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return record if record["samples"] else None
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path} is damaged; restore it from a backup") from None


def _run_cache(folder: Path, record: dict[str, Any] | None) -> Pack | None:
    for place in sorted(folder.glob("pack-*")) if record is not None else []:
        try:
            pack = Pack(place)
        except DataError:  # damaged, or of another version: as good as none
            continue
        if record is not None and pack.fingerprint == record.get("fingerprint"):
            return pack
    return None


def _cache_folder(
    own: Path, pairs: Sequence[Pair], preprocess: Preprocess, encoder: StatesEncoder, scratch: Path
) -> tuple[Path, StatesEncoder]:
    """Where the copy of the data is or shall be, and what reads its captions."""
    stamp = stamp_of(pairs, preprocess, encoder.identity, Exclusions())[:16]
    for folder in (own, scratch):
        if (folder / f"stamp-pack-{stamp}.json").is_file():
            return folder, encoder
    return scratch, _NoEncoder()


class _NoEncoder:
    """Stands where a text encoder would: an evaluation reads only the captions it measures."""

    identity = "unread"

    def states(self, captions: Sequence[str]) -> list[Tensor]:
        return [torch.zeros(1, dtype=torch.int64) for _ in captions]
