"""The record of an export, `tintype.json` in its folder: what it is, who may use it, which files belong to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tintype._version import __version__
from tintype.export.options import ExportOptions
from tintype.model.file_names import RECORD
from tintype.model.read_file import MAX_CONFIG_BYTES, read_text

FORMAT = 1  # raised when an older Tintype could no longer read it


class Record(NamedTuple):
    """The record of an export."""

    form: str
    name: str
    version: str  # of the Tintype that wrote it
    license: str  # "" for none
    files: tuple[str, ...]  # all files of the export but the record itself, with slashes


def write_record(folder: Path, form: str, options: ExportOptions, more: Mapping[str, Any] | None = None) -> None:
    """Write the record of the files that lie in `folder`; `more` has entries of this form alone. Raises OSError."""
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    content = {
        "format": FORMAT,
        "form": form,
        "name": options.name,
        "tintype": __version__,
        "license": options.license,
        "files": files,
        **(more or {}),
    }
    (folder / RECORD).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_record(folder: Path) -> Record | None:
    """The record of an export; None where there is none, or another file of that name."""
    try:
        content = json.loads(read_text(folder / RECORD, MAX_CONFIG_BYTES))
        texts = [content[name] for name in ("form", "name", "tintype", "license")]
        files = content["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(isinstance(text, str) for text in texts) or not isinstance(files, list):
        return None
    form, name, version, license_ = texts
    return Record(form, name, version, license_, tuple(map(str, files)))
