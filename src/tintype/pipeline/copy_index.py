"""The copy index: the training pictures that sampling turns away from, as a small file that can travel with a model.

It holds a thumbnail of 16 x 16 pixels of each training picture, 768 bytes, and the distance from which on a picture is
a copy. Whoever has the file can see the training pictures at that size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from tintype.copies.avoid import CopyAvoidance
from tintype.copies.index import SIDE, PictureIndex
from tintype.errors import ConfigError, DataError
from tintype.model import file_names
from tintype.model.atomic_write import write_bytes
from tintype.model.read_file import open_file
from tintype.model.store import Model

FORMAT = "1"  # of the file; raised when an older Tintype could no longer read it
THUMBNAILS = "thumbnails"


@dataclass(frozen=True, eq=False, slots=True)
class CopyIndex:
    """Training pictures, and the limit of copies among them."""

    pictures: PictureIndex
    limit: float  # relative distance at or below which a picture is a copy; negative: none is
    target: float  # relative distance to which copies are moved
    num_held_out: int  # pictures that the limit was calibrated on

    @property
    def sha256(self) -> str:
        """The hash of what steers sampling: thumbnails, limit and target."""
        digest = hashlib.sha256(f"{FORMAT} {self.limit!r} {self.target!r}".encode())
        digest.update(self.pictures.thumbnails.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def avoidance(self, seeds: Sequence[int], indices: Sequence[int], last_sigma: float) -> CopyAvoidance:
        """What steers the pictures of a request, one after another step, to the last at noise level `last_sigma`."""
        rows = torch.tensor(seeds, dtype=torch.int64), torch.tensor(indices, dtype=torch.int64)
        return CopyAvoidance(self.pictures, self.limit, self.target, *rows, last_sigma)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all. Raises CheckpointError if the disk cannot be written."""
        about = {
            "format": FORMAT,
            "limit": repr(self.limit),
            "target": repr(self.target),
            "held_out": str(self.num_held_out),
        }
        thumbnails = self.pictures.thumbnails.contiguous()
        write_bytes(path, safetensors.torch.save({THUMBNAILS: thumbnails}, metadata=about))

    @classmethod
    def load(cls, path: Path) -> CopyIndex:
        """Read a file of `save`. Raises DataError if it is missing, damaged or of another format."""
        damaged = DataError(f"{path} is not a whole copy index; make it again with --avoid-copies --data DATA")
        try:
            open_file(path).close()  # refuses pipes and devices
            with safe_open(path, framework="pt") as file:
                about, thumbnails = file.metadata() or {}, file.get_tensor(THUMBNAILS)
            limit, target, num_held_out = float(about["limit"]), float(about["target"]), int(about["held_out"])
        except (OSError, SafetensorError, KeyError, ValueError):
            raise damaged from None
        if about.get("format") != FORMAT:
            raise DataError(f"{path} is of another format: it needs another version of Tintype")
        if (
            thumbnails.dtype != torch.uint8
            or thumbnails.shape[1:] != (3, SIDE, SIDE)
            or not math.isfinite(limit + target)
        ):
            raise damaged
        if not len(thumbnails):
            raise damaged
        return cls(PictureIndex(thumbnails), limit, target, num_held_out)


def copy_index_path(model: Model) -> Path | None:
    """The copy index of a model: in its folder, or in the run it belongs to."""
    folders = [model.folder, *([] if model.run is None else [model.run])]
    return next((path for path in (folder / file_names.COPY_INDEX for folder in folders) if path.is_file()), None)


def find_copy_index(model: Model | None, name: str) -> CopyIndex:
    """Read the copy index of a model. Raises ConfigError without one, DataError if it is damaged."""
    path = None if model is None else copy_index_path(model)
    if path is None:
        raise ConfigError(
            f"avoid_copies needs the copy index of {name}, {file_names.COPY_INDEX}: make it of the training pictures "
            "with `tintype generate CAPTION --avoid-copies --data DATA`"
        )
    return CopyIndex.load(path)
