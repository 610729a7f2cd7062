"""Atomic writes: files appear whole or not at all, flushed to disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tintype.errors import CheckpointError


def write_text(path: Path, text: str) -> None:
    """Write one text file, whole or not at all. Raises CheckpointError if the disk cannot be written."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write one file, whole or not at all. Raises CheckpointError if the disk cannot be written."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise _unwritable(path, error) from error


def replace_file(path: Path, content: bytes) -> None:
    """Write one file, whole or not at all, in place of one that is there. Raises OSError."""
    # Two commands that write the same file must not share a temporary one.
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        write_synced(temporary, content)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_synced(path: Path, content: bytes) -> dict[str, object]:
    """Write one file in place, and flush it to disk. Returns its size and sha256. Raises OSError."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk. Raises OSError."""
    if os.name == "nt":  # Windows can neither open nor flush a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason_of(error: OSError) -> str:
    """The operating system's message for an error."""
    return error.strerror or str(error)


def _unwritable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"cannot write {path}: {reason_of(error)}; free some space or choose another folder")
