"""What a path from a stranger is: an exported page or site, a model folder, or something to refuse."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Literal

from tintype.errors import CheckpointError
from tintype.export.record import read_record
from tintype.export.target import GENERATOR, HEAD
from tintype.model.file_names import CONFIG, RECORD
from tintype.model.read_file import open_file
from tintype.printable import one_line

Kind = Literal["page", "site", "folder"]
INDEX, PACKED = "index.html", "model.bin"  # of a site
# The first bytes of files that are refused, and what to do instead.
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (
        b"PK\x03\x04",
        "a zip archive, or a file of PyTorch, which can run code: unpack an archive and name what is in it",
    ),
    (b"\x80", "a file of pickle, which can run code and is never read"),
    (b"\x1f\x8b", "packed with gzip: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "packed with Zstandard: unpack it first"),
    (b"\x89HDF", "a file of HDF5, not of Tintype"),
    (b"GGUF", "a file of GGUF, not of Tintype"),
)


def kind_of(path: Path) -> Kind:
    """What an existing path is, by the head of a file or the names in a folder. Raises CheckpointError for the rest."""
    try:
        if path.is_dir():
            return _kind_of_folder(path)
        head = _head(path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    if GENERATOR.encode() in head:
        return "page"
    for start, what in _OTHERS:
        if head.startswith(start):
            raise CheckpointError(f"{path} is {what}")
    if head[8:9] == b"{" and path.suffix == ".safetensors":
        raise CheckpointError(f"{path} is weights alone: name the folder that has its {CONFIG} too")
    if path.suffix == ".onnx":
        raise CheckpointError(f"{path} is one graph of a model: name the folder that it lies in")
    raise CheckpointError(f"{path} is no page that Tintype exported: its first {HEAD} bytes do not say so")


def _kind_of_folder(folder: Path) -> Kind:
    if (folder / CONFIG).exists():
        return "folder"
    record = read_record(folder)
    if record is not None and record.form == "onnx":
        raise CheckpointError(
            f"{folder} is an ONNX export: its graphs hold no settings, and their weights are folded into them; ask for "
            "the model folder or a page"
        )
    if (folder / INDEX).exists() and (folder / PACKED).exists():
        if GENERATOR.encode() not in _head(folder / INDEX, folder):
            raise CheckpointError(f"{folder / INDEX} is no page that Tintype exported")
        return "site"
    if record is not None:
        raise CheckpointError(f"{folder} is an export of the form {one_line(record.form)[:40]}, which holds no model")
    raise CheckpointError(f"{folder} is no model and no export: it has no {CONFIG}, no {RECORD} and no {PACKED}")


def _head(path: Path, inside: Path | None = None) -> bytes:
    """The first bytes of a regular file. Raises OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is not a regular file")
    with open_file(path, inside) as file:
        return file.read(HEAD)
