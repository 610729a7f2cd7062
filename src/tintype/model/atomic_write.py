"""Atomic writes: files appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tintype.errors import CheckpointError

MAX_NAME = 50  # characters of a file's name in the name of its temporary file; systems take 255 bytes


def write_text(path: Path, text: str) -> None:
    """Write one text file, whole or not at all. Raises CheckpointError if the disk cannot be written."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write one file, whole or not at all, flushed to disk. Raises CheckpointError if the disk cannot be written."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise _unwritable(path, error) from error


def replace_file(path: Path, content: bytes) -> None:
    """Write one file, whole or not at all, in place of one that is there, flushed to disk. Raises OSError."""
    with _beside(path) as temporary:
        write_synced(temporary, content)
        os.replace(temporary, path)
        sync_folder(path.parent)


def replace_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    """Write one file in chunks, otherwise as `replace_file`; they may be read from the old file. Raises OSError."""
    with _beside(path) as temporary:
        with temporary.open("wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)


def write_free(paths: Iterable[Path], content: bytes) -> Path:
    """Write one file, whole or not at all, at the first of `paths` that is free; all lie in one folder.

    Nothing is replaced, also when several programs write at the same time. Not flushed to disk. Raises
    CheckpointError if the disk cannot be written.
    """
    names = iter(paths)
    path = next(names)
    try:
        with _beside(path) as temporary:
            temporary.write_bytes(content)
            while True:
                try:
                    _take(temporary, path)
                    return path
                except FileExistsError:
                    path = next(names)
    except OSError as error:
        raise _unwritable(path, error) from error


def _take(temporary: Path, path: Path) -> None:
    """Move a file to a free name. Raises FileExistsError if the name is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        path.open("xb").close()
        try:
            os.replace(temporary, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name for a temporary file beside `path`; the file is gone afterwards, even after Ctrl-C."""
    # Two commands that write the same file must not share a temporary one.
    temporary = path.with_name(f".{path.name[:MAX_NAME]}.tmp-{os.getpid()}")
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink()


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


def temporary_path(path: Path) -> Path:
    """The name beside `path` under which this process fills a folder or file that then becomes `path`."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")


def rename_into_place(temporary: Path, path: Path) -> None:
    """Make a finished folder or file `path`, in place of what is there. Raises OSError."""
    if path.exists():
        old = path.with_name(f".{path.name}.old-{os.getpid()}")
        os.rename(path, old)
        os.rename(temporary, path)
        delete(old)
    else:
        os.rename(temporary, path)
    sync_folder(path.parent)


def delete(path: Path) -> None:
    """Delete a folder with all that is in it, or a file. Ignores errors."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def reason_of(error: OSError) -> str:
    """The operating system's message for an error."""
    return error.strerror or str(error)


def _unwritable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"cannot write {path}: {reason_of(error)}; free some space or choose another folder")
