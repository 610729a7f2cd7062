"""Checkpoints: folders of safetensors and text that are either whole or absent. Parts have names, no classes.

Writing fills a temporary folder, flushes every file to disk, writes `manifest.json` (sizes and sha256) last and then
renames the folder. Reading checks every byte against the manifest. No code is ever run.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from tintype.errors import CheckpointError, NotFiniteError
from tintype.model.atomic_write import reason_of, rename_into_place, sync_folder, temporary_path, write_synced
from tintype.model.atomic_write import write_bytes as write_bytes
from tintype.model.atomic_write import write_text as write_text
from tintype.model.file_names import CHECKPOINTS, LATEST
from tintype.model.read_file import MAX_CONFIG_BYTES, read_bytes

MANIFEST = "manifest.json"
FORMAT = 1  # of the manifest; raised when an older Tintype could no longer read it
SHARDED_FORMAT = 2  # likewise, where several processes wrote shards
SHARD = "shard-"  # prefix of the names of shard files
SPACE = 1.1  # bytes that must be free for each that a checkpoint takes
ANOTHER = "; use another checkpoint"  # end of the message about a damaged one
_STEP = re.compile(r"step-(\d{8,})")
_LEFTOVER = re.compile(r"\..+\.(tmp|old)-\d+")


class FolderWriter:
    """Writer of a checkpoint: its temporary folder, and size and sha256 of each file written so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, dict[str, object]] = {}

    def write(self, name: str, content: bytes) -> None:
        """Write a file, and flush it to disk. Raises OSError."""
        self.files[name] = write_synced(self.folder / name, content)

    def write_part(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write `NAME.safetensors`, and flush it to disk. Raises OSError."""
        self.write(f"{name}.safetensors", _pack(tensors))

    def add_existing(self, name: str) -> None:
        """List a file in the manifest that another writer has put into the folder. Raises OSError."""
        path = self.folder / name
        with path.open("rb") as file:
            self.files[name] = {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


@contextmanager
def atomic_folder(folder: Path, size: int, *, manifest_format: int = FORMAT) -> Iterator[FolderWriter]:
    """Context manager: fill a temporary folder, which then becomes `folder`, or nothing if the block raises.

    size: bytes that must be free. Replaces an older folder of that name. Raises CheckpointError if the disk cannot be
    written; the older folder then stays as it was.
    """
    writer = FolderWriter(temporary_path(folder))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _require_space(folder.parent, size)
        shutil.rmtree(writer.folder, ignore_errors=True)
        writer.folder.mkdir()
        yield writer
        writer.write(
            MANIFEST, (json.dumps({"format": manifest_format, "files": writer.files}, indent=2) + "\n").encode()
        )
        sync_folder(writer.folder)
        rename_into_place(writer.folder, folder)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {folder}: {reason_of(error)}; free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(writer.folder, ignore_errors=True)


def save_parts(folder: Path, parts: Mapping[str, Mapping[str, Tensor]], texts: Mapping[str, str]) -> None:
    """Write `NAME.safetensors` for each part and one file for each text; `folder` appears whole or not at all.

    Replaces an older folder of that name. Raises NotFiniteError if a tensor is not finite and CheckpointError if the
    disk cannot be written; the older folder then stays as it was.
    """
    for part, tensors in parts.items():
        require_finite(part, tensors)
    with atomic_folder(
        folder, sum(tensor.nbytes for tensors in parts.values() for tensor in tensors.values())
    ) as writer:
        for name, text in texts.items():
            writer.write(name, text.encode())
        for part, tensors in parts.items():
            writer.write_part(part, tensors)


def load_parts(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """Read the named parts of a checkpoint, to the CPU. Raises CheckpointError naming the first damaged file."""
    files = _read_manifest(folder)
    return {name: _unpack(_read_checked(folder, f"{name}.safetensors", files), folder / name) for name in names}


def load_texts(folder: Path) -> dict[str, str]:
    """Read every text of a checkpoint. Raises CheckpointError naming the first file that is damaged."""
    files = _read_manifest(folder)
    names = [name for name in files if not name.endswith(".safetensors")]
    return {name: _read_checked(folder, name, files).decode() for name in names}


def verify(folder: Path) -> list[str]:
    """The names of a checkpoint's files. Raises CheckpointError naming the first that is missing or damaged."""
    files = _read_manifest(folder)
    for name in files:
        _read_checked(folder, name, files)
    return list(files)


def part_names(folder: Path) -> list[str]:
    """Names of the parts that a checkpoint stores as one file each. Raises CheckpointError."""
    names = [name.removesuffix(".safetensors") for name in _read_manifest(folder) if name.endswith(".safetensors")]
    return [name for name in names if not name.startswith(SHARD)]


def is_sharded(folder: Path) -> bool:
    """Whether a checkpoint stores some parts as shards in several files. Raises CheckpointError."""
    return any(name.startswith(SHARD) for name in _read_manifest(folder))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read one safetensors file, on the CPU. Raises CheckpointError if it is missing or is not one."""
    try:
        return _unpack(path.read_bytes(), path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {reason_of(error)}") from None


def require_finite(part: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise NotFiniteError, naming the first, if a tensor is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not _is_finite(tensor):
            raise NotFiniteError(f"{part}: {name} is not finite, so nothing was saved; train with a lower --lr")


def _is_finite(tensor: Tensor) -> bool:
    if tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64, torch.float16):
        # NumPy starts no OpenMP threads, which the thread that saves would keep.
        return bool(np.isfinite(tensor.detach().numpy()).all())
    return bool(torch.isfinite(tensor).all())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file, whole or not at all. Raises NotFiniteError, CheckpointError."""
    require_finite(path.stem, tensors)
    write_bytes(path, _pack(tensors))


def step_folder(run: Path, num_steps: int) -> Path:
    """Folder of the checkpoint of a run after `num_steps` steps."""
    return run / CHECKPOINTS / f"step-{num_steps:08d}"


def checkpoints(run: Path) -> list[Path]:
    """All checkpoints of a run, newest first, damaged ones too."""
    folder = run / CHECKPOINTS
    paths = [path for path in folder.iterdir() if _STEP.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(paths, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def latest(run: Path) -> Path | None:
    """The newest checkpoint of a run that verifies, or None."""
    return newest_whole(run)[0]


def newest_whole(run: Path) -> tuple[Path | None, dict[Path, str]]:
    """The newest checkpoint of a run that verifies, or None, and what is damaged in each newer one."""
    damaged: dict[Path, str] = {}
    for folder in checkpoints(run):
        damage = damage_of(folder)
        if damage is None:
            return folder, damaged
        if folder.is_dir():  # a run at work may have deleted it meanwhile
            damaged[folder] = damage
    return None, damaged


def damage_of(folder: Path) -> str | None:
    """What is damaged in a checkpoint, with the name of the file; None if it verifies."""
    try:
        verify(folder)
    except CheckpointError as error:
        return str(error).removesuffix(ANOTHER)
    return None


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint verifies."""
    return damage_of(folder) is None


def write_latest(run: Path, folder: Path) -> None:
    """Write the newest checkpoint's path to the file `latest`, for people and scripts; `latest()` does not read it."""
    write_text(run / LATEST, f"{folder.relative_to(run).as_posix()}\n")


def prune(run: Path, keep: int, also: Container[Path] = ()) -> None:
    """Delete the checkpoints older than the newest `keep` whose files all have the size they were written with.

    Keeps those in `also`, however old. Ignores errors of deletion, since housekeeping must never stop a run.
    """
    whole = 0
    for folder in checkpoints(run):
        if whole >= keep and folder not in also:
            _discard(folder)
        else:
            whole += _has_sizes(folder)


def clean(run: Path) -> None:
    """Delete temporary folders of interrupted saves. Call it only where no other process writes."""
    folder = run / CHECKPOINTS
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if _LEFTOVER.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _require_space(folder: Path, size: int) -> None:
    if shutil.disk_usage(folder).free < SPACE * size:
        raise OSError(f"not enough free space for {size / 1e6:.0f} MB")


def _pack(tensors: Mapping[str, Tensor]) -> bytes:
    unshared: dict[str, Tensor] = {}
    addresses = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        unshared[name] = tensor.clone() if address in addresses else tensor  # safetensors refuses shared memory
        addresses.add(address)
    return safetensors.torch.save(unshared)


def _unpack(content: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # safetensors raises several kinds for one cause: these bytes are not a safetensors file
        raise CheckpointError(f"{path} is damaged ({error}); use another checkpoint or copy it again") from None


def _has_sizes(folder: Path) -> bool:
    try:
        return all((folder / name).stat().st_size == entry["size"] for name, entry in _read_manifest(folder).items())
    except (CheckpointError, OSError):
        return False


def _discard(folder: Path) -> None:
    trash = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    try:
        os.rename(folder, trash)  # at once, so that a half-deleted folder is never taken for a checkpoint
    except OSError:
        return
    shutil.rmtree(trash, ignore_errors=True)


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(read_bytes(path, MAX_CONFIG_BYTES))
        manifest_format, files = manifest["format"], manifest["files"]
        entries = {str(name): {"size": int(entry["size"]), "sha256": entry["sha256"]} for name, entry in files.items()}
    except OSError as error:
        raise CheckpointError(f"{folder} is not a checkpoint: no readable {MANIFEST} ({reason_of(error)})") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise CheckpointError(f"{path} is damaged{ANOTHER}") from None
    if manifest_format not in (FORMAT, SHARDED_FORMAT):
        raise CheckpointError(f"{path} is of format {manifest_format}; it needs another version of Tintype")
    for name in entries:
        if Path(name).name != name:
            raise CheckpointError(f"{path} names a file outside its folder: {name}{ANOTHER}")
    return entries


def _read_checked(folder: Path, name: str, files: Mapping[str, Mapping[str, Any]]) -> bytes:
    if name not in files:
        raise CheckpointError(f"{folder} has no {name}{ANOTHER}")
    size = files[name]["size"]
    try:
        content = read_bytes(folder / name, size)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise CheckpointError(f"{folder / name} is damaged: it does not match the manifest{ANOTHER}") from None
        raise CheckpointError(f"cannot read {folder / name}: {reason_of(error)}{ANOTHER}") from None
    if len(content) != size or hashlib.sha256(content).hexdigest() != files[name]["sha256"]:
        raise CheckpointError(f"{folder / name} is damaged: it does not match the manifest{ANOTHER}")
    return content
