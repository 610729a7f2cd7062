"""Disk space of a run: looked at before the first step, so that no run trains to its end and cannot be saved."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tintype.config import TrainConfig
from tintype.errors import TrainingError
from tintype.model.checkpoint import SPACE
from tintype.training.console import size

_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class DiskNeeds:
    """What a run will still write, in bytes and checkpoints."""

    checkpoint_bytes: int  # of one
    model_bytes: int  # of the finished model
    most: int  # checkpoints that exist at once, at most
    present: int = 0  # checkpoints that exist already
    data_bytes: int = 0  # of a cache that is not yet there
    is_saved: bool = False  # the last checkpoint is there, so only the finished model is to be written


def most_checkpoints(train: TrainConfig, seconds: float | None) -> int:
    """How many checkpoints exist at once, at most: those that are kept, and one that is being written.

    seconds: how long the run will take; None: unknown, so that all that may be kept are counted.
    """
    most = train.keep_last + train.keep_best + 1
    if seconds is not None:
        most = min(most, 1 + int(seconds // (train.save_minutes * _MINUTE)))
    return most + (train.images // train.keep_every if train.keep_every else 0)


def require_disk(folder: Path, train: TrainConfig, needs: DiskNeeds) -> str:
    """Raise TrainingError if the disk of `folder`, which need not exist, has no room for a checkpoint and the model.

    Returns a warning if there is room for fewer checkpoints than there will be; empty if there is enough.
    """
    place = _existing(folder)
    try:
        free = shutil.disk_usage(place).free
    except OSError:  # a file system that does not say
        return ""
    once = needs.model_bytes + needs.data_bytes
    needed = once + (0 if needs.is_saved else round(SPACE * needs.checkpoint_bytes))
    has = f"the disk of {place} has {size(free)} free"
    if free < needed:
        what = "the finished model" if needs.is_saved else "one checkpoint and the finished model"
        data = " and the cache of the data" if needs.data_bytes else ""
        raise TrainingError(
            f"{has}, and this run needs {size(needed)} for {what}{data}, so its result could not be saved; make room, "
            "give --out a folder on another disk, or train a smaller --preset"
        )
    spare = (SPACE - 1) * needs.checkpoint_bytes
    room = needs.present + int((free - once - spare) // max(1, needs.checkpoint_bytes))
    if needs.is_saved or room >= needs.most:
        return ""
    keep = train.keep_last - (needs.most - room)
    fewer = f" give --keep {keep}," if keep >= 1 else ""
    return (
        f"{has}, room for {room} of the {needs.most} checkpoints of {size(needs.checkpoint_bytes)} that this run may "
        f"have at once, so that later ones could not be saved:{fewer} make room, or give --out a folder on another disk"
    )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    if folder.is_dir():
        return folder
    return next((path for path in folder.absolute().parents if path.is_dir()), folder)
