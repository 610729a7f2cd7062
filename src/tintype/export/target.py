"""Where an export goes: nothing but an earlier export is replaced, and it appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tintype.errors import CheckpointError
from tintype.export.record import read_record
from tintype.model.atomic_write import delete, reason_of, rename_into_place, temporary_path
from tintype.model.file_names import RECORD

GENERATOR = '<meta name="generator" content="Tintype'  # in the first bytes of every page that an export writes
HEAD = 4096  # bytes in which it stands


def require_free(out: Path, *, overwrite: bool) -> None:
    """Raise CheckpointError if an export may not take the place of what is at `out`.

    It may be nothing or an empty folder; with `overwrite` also an earlier export that nobody has added a file to. The
    current folder is never replaced, since the shell would be left without one.
    """
    if out.is_dir() and Path.cwd().is_relative_to(out.resolve()):
        raise CheckpointError(f"{out} is the current folder, or one that it lies in; name a new folder as --out")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (is_page(out) if out.is_file() else read_record(out) is not None):
        raise CheckpointError(f"{out} exists and is no earlier export; choose another --out")
    if not overwrite:
        raise CheckpointError(f"{out} is an earlier export; add --overwrite to replace it, or choose another --out")
    added = added_files(out)
    if added:
        raise CheckpointError(f"{out} has a file that no export wrote ({added[0]}); move it, or choose another --out")


def is_page(file: Path) -> bool:
    """Whether a file is a page that an export wrote. Raises OSError."""
    with file.open("rb") as opened:
        return GENERATOR.encode() in opened.read(HEAD)


def added_files(folder: Path) -> list[str]:
    """Files in an exported folder that are not of the export; none for a single file."""
    record = read_record(folder) if folder.is_dir() else None
    if record is None:
        return []
    found = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())
    return sorted(name for name in found if name not in record.files and name != RECORD)


@contextmanager
def filled(out: Path) -> Iterator[Path]:
    """A name beside `out`, for the block to make a folder or file of, which then becomes `out`.

    After an error nothing is left, and what was at `out` stays. Raises CheckpointError if the disk cannot be written.
    """
    temporary = temporary_path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        delete(temporary)
        yield temporary
        _flush(temporary)
        rename_into_place(temporary, out)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {out}: {reason_of(error)}; free some space or choose another --out"
        ) from error
    finally:
        delete(temporary)


def _flush(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
