"""Checkpoints of a model that processes share: each writes its own parts, by `torch.distributed.checkpoint`.

All files are safetensors, a part of every tensor in each, with its place in the whole. `model` alone is a whole file,
which makes pictures as any other does. What some processes wrote, any other number of them can read.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from tintype.errors import CheckpointError
from tintype.model import checkpoint
from tintype.training.parallel.world import World

MODEL = "model"  # the part that is written whole, by the first process; names in all others begin with PART/


def save_shards(
    folder: Path, parts: Mapping[str, Mapping[str, Tensor]], texts: Mapping[str, str], world: World
) -> None:
    """Write a checkpoint together: every process calls it with its parts of all but `model`, the first with that whole.

    Like `checkpoint.save_parts`; where writing fails, it fails in all processes. Raises CheckpointError.
    """
    flat = {f"{part}/{name}": t for part, tensors in parts.items() if part != MODEL for name, t in tensors.items()}
    size = sum(tensor.nbytes for tensors in parts.values() for tensor in tensors.values())
    if not world.is_main:
        told = torch.zeros(1, dtype=torch.int64)
        dist.broadcast(told, 0, group=world.saving)
        if int(told):
            _write(_beside(folder, int(told)), flat, world)
        return
    told = torch.tensor([os.getpid()])
    try:
        with checkpoint.building(folder, size, form=checkpoint.SHARDED_FORMAT) as made:
            dist.broadcast(told, 0, group=world.saving)
            told.zero_()
            _write(made.folder, flat, world)
            for path in sorted(made.folder.iterdir()):
                made.take_in(path.name)
            for name, text in texts.items():
                made.write(name, text.encode())
            made.write_part(MODEL, parts[MODEL])
    except CheckpointError:
        if int(told):  # there was nowhere to write, and the others still wait to be told where
            dist.broadcast(told.zero_(), 0, group=world.saving)
        raise


def _beside(folder: Path, process: int) -> Path:
    """Where the first process, of that number, builds a folder."""
    return folder.with_name(checkpoint.temporary_of(folder).name.rpartition("-")[0] + f"-{process}")


def _write(folder: Path, flat: dict[str, Any], world: World) -> None:
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        save(flat, storage_writer=writer, process_group=world.saving)
    except CheckpointException as error:  # is no Exception: it holds what went wrong in each process
        number, (reason, _) = next(iter(error.failures.items()))
        raise CheckpointError(
            f"cannot write {folder}: {reason} (process {number}); free some space or choose another folder"
        ) from None


def load_shards(place: Path, weights: Mapping[str, Tensor], world: World) -> dict[str, dict[str, Tensor]]:
    """Read from a checkpoint what this process holds of each weight, average and moment. All processes call it.

    weights: of the model, by name; what is read is shared out as they are. Raises CheckpointError.
    """
    found: dict[str, Any] = {}
    for key, size in _sizes(place).items():
        _, name = _split(key)
        like = weights.get(name)
        if like is None or (size and size != like.shape):
            raise CheckpointError(f"the checkpoint does not fit this model: {name} is unknown or of another shape")
        found[key] = torch.zeros_like(like) if size else torch.zeros(size)  # a number is the same in all processes
    _read(place, found, world)
    return _parts_of(found)


def load_whole(place: Path) -> dict[str, dict[str, Tensor]]:
    """Every part of such a checkpoint, whole, on the CPU. Raises CheckpointError naming the first damaged file."""
    checkpoint.verify(place)
    found: dict[str, Any] = {key: torch.zeros(size) for key, size in _sizes(place).items()}
    _read(place, found, None)
    return _parts_of(found)


def _sizes(place: Path) -> dict[str, torch.Size]:
    """The size of every tensor in the files of a checkpoint."""
    try:
        metadata = HuggingFaceStorageReader(str(place)).read_metadata().state_dict_metadata
    except Exception as error:  # safetensors raises several kinds for one cause
        raise CheckpointError(f"{place} is damaged ({error}); use another checkpoint") from None
    return {key: entry.size for key, entry in metadata.items() if isinstance(entry, TensorStorageMetadata)}


def _read(place: Path, found: dict[str, Any], world: World | None) -> None:
    """Fill the tensors in `found`: all of them, or this process's part of each."""
    reader = HuggingFaceStorageReader(str(place))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            load(
                found,
                storage_reader=reader,
                process_group=world.saving if world is not None else None,
                no_dist=world is None,
            )
        except CheckpointException as error:
            number, (reason, _) = next(iter(error.failures.items()))
            raise CheckpointError(f"cannot read {place}: {reason} (process {number})") from None


def _parts_of(found: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in found.items():
        part, name = key.split("/", 1) if "/" in key else (MODEL, key)
        parts.setdefault(part, {})[name] = tensor
    return parts


def _split(key: str) -> tuple[str, str]:
    """The part of a tensor in the files, and the weight it belongs to."""
    part, _, name = key.rpartition("/")
    return part.partition("/")[0] or MODEL, name
