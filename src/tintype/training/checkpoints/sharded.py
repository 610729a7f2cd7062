"""Checkpoints of a sharded model: each process writes its own shards, with `torch.distributed.checkpoint`.

All files are safetensors: each holds one shard of every tensor and its offsets. `model` alone is stored in full, so it
generates like any other model. Any number of processes can read a checkpoint, whatever number wrote it.
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
from tintype.model.atomic_write import temporary_path
from tintype.training.parallel.world import World

MODEL = "model"  # the part that rank 0 writes in full; names in all other parts start with PART/


def save_shards(
    folder: Path, parts: Mapping[str, Mapping[str, Tensor]], texts: Mapping[str, str], world: World
) -> None:
    """Write a checkpoint together: every process passes its shards, and rank 0 the whole `model` as well.

    Like `checkpoint.save_parts`; a failure in one process fails in all of them. Raises CheckpointError.
    """
    flat = {f"{part}/{name}": t for part, tensors in parts.items() if part != MODEL for name, t in tensors.items()}
    size = sum(tensor.nbytes for tensors in parts.values() for tensor in tensors.values())
    if not world.is_main:
        builder = torch.zeros(1, dtype=torch.int64)
        dist.broadcast(builder, 0, group=world.saving)
        if int(builder):
            _write(_temporary_folder(folder, int(builder)), flat, world)
        return
    builder = torch.tensor([os.getpid()])
    try:
        with checkpoint.atomic_folder(folder, size, manifest_format=checkpoint.SHARDED_FORMAT) as folder_writer:
            dist.broadcast(builder, 0, group=world.saving)
            builder.zero_()
            _write(folder_writer.folder, flat, world)
            for path in sorted(folder_writer.folder.iterdir()):
                folder_writer.add_existing(path.name)
            for name, text in texts.items():
                folder_writer.write(name, text.encode())
            folder_writer.write_part(MODEL, parts[MODEL])
    except CheckpointError:
        if int(builder):  # the folder could not be made, and the others still wait for its name
            dist.broadcast(builder.zero_(), 0, group=world.saving)
        raise


def _temporary_folder(folder: Path, process: int) -> Path:
    """The temporary folder in which rank 0, with this process id, builds `folder`."""
    return folder.with_name(temporary_path(folder).name.rpartition("-")[0] + f"-{process}")


def _write(folder: Path, flat: dict[str, Any], world: World) -> None:
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        save(flat, storage_writer=writer, process_group=world.saving)
    except CheckpointException as error:  # not an Exception: it holds the error of each process
        number, (reason, _) = next(iter(error.failures.items()))
        raise CheckpointError(
            f"cannot write {folder}: {reason} (process {number}); free some space or choose another folder"
        ) from None


def load_shards(folder: Path, weights: Mapping[str, Tensor], world: World) -> dict[str, dict[str, Tensor]]:
    """Read this process's shard of each weight, average and moment. All processes must call it.

    weights: of the model, by name; the tensors that are read are sharded as they are. Raises CheckpointError.
    """
    tensors: dict[str, Any] = {}
    for key, size in _sizes(folder).items():
        _, name = _split(key)
        like = weights.get(name)
        if like is None or (size and size != like.shape):
            raise CheckpointError(f"the checkpoint does not fit this model: {name} is unknown or of another shape")
        tensors[key] = torch.zeros_like(like) if size else torch.zeros(size)  # scalars are equal in all processes
    _read(folder, tensors, world)
    return _by_part(tensors)


def load_whole(folder: Path) -> dict[str, dict[str, Tensor]]:
    """All parts of a sharded checkpoint, in full, on the CPU. Raises CheckpointError naming the first damaged file."""
    checkpoint.verify(folder)
    tensors: dict[str, Any] = {key: torch.zeros(size) for key, size in _sizes(folder).items()}
    _read(folder, tensors, None)
    return _by_part(tensors)


def _sizes(folder: Path) -> dict[str, torch.Size]:
    """The size of every tensor in the files of a checkpoint."""
    try:
        metadata = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    except Exception as error:  # safetensors raises several types for one cause
        raise CheckpointError(f"{folder} is damaged ({error}); use another checkpoint") from None
    return {key: entry.size for key, entry in metadata.items() if isinstance(entry, TensorStorageMetadata)}


def _read(folder: Path, tensors: dict[str, Any], world: World | None) -> None:
    """Fill `tensors` in place: in full without a world, else this process's shard of each."""
    reader = HuggingFaceStorageReader(str(folder))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            load(
                tensors,
                storage_reader=reader,
                process_group=world.saving if world is not None else None,
                no_dist=world is None,
            )
        except CheckpointException as error:
            number, (reason, _) = next(iter(error.failures.items()))
            raise CheckpointError(
                f"cannot read {folder}: {reason} (process {number}); use another checkpoint"
            ) from None


def _by_part(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part, name = key.split("/", 1) if "/" in key else (MODEL, key)
        parts.setdefault(part, {})[name] = tensor
    return parts


def _split(key: str) -> tuple[str, str]:
    """The part that a tensor in the files belongs to, and the name of its weight."""
    part, _, name = key.rpartition("/")
    return part.partition("/")[0] or MODEL, name
