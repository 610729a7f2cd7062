"""A data set of the studio: its folder, its source, and the files in it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tintype.errors import DataError
from tintype.model.atomic_write import delete, write_text
from tintype.studio.places import Places, is_inside
from tintype.studio.table import Table

ABOUT = "dataset.json"
UPLOADED = "uploaded"  # the folder of pictures that came through the page
UNPACKED = "unpacked"  # the folder of pictures that lie in archives
DATA = "data"  # the folder of versions that training reads
STALE = ".stale"  # a file that says that uploads have changed since the last scan
GONE = "the folder of this data set is no longer there; put it back, or delete the data set"


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set. Its captions are edited in `table`; the person's own files are only read."""

    id: str
    home: Path  # its folder in the studio
    name: str
    chosen: str | None  # the folder or archive that was chosen, relative to the root; None: uploaded pictures

    @property
    def table(self) -> Table:
        return Table(self.home / "pictures.db")

    @property
    def uploaded(self) -> Path:
        return self.home / UPLOADED

    @property
    def unpacked(self) -> Path:
        return self.home / UNPACKED

    @property
    def problems(self) -> Path:
        """What the last scan left out, a JSON object a line."""
        return self.home / "problems.jsonl"

    @property
    def verdict(self) -> Path:
        return self.home / "verdict.json"

    @property
    def is_scanned(self) -> bool:
        return self.problems.is_file()

    def source(self, places: Places) -> Path:
        """The folder or archive that its pictures come from, links resolved. Raises DataError if it is gone."""
        path = self.uploaded if self.chosen is None else places.below_root(self.chosen)
        if path is None or not path.exists():
            raise DataError(GONE)
        return path

    def file(self, places: Places, place: str) -> Path | None:
        """The file of a picture by its place in the table; None if it is gone or is now a link out of bounds."""
        kind, _, name = place.partition("/")
        if kind == UNPACKED:
            return self.unpacked / name
        try:
            source = self.source(places)
            path = (source / name).resolve(strict=True)
        except (DataError, OSError, RuntimeError):
            return None
        return path if is_inside(path, places.root) or is_inside(path, self.home) else None

    def save(self) -> None:
        """Write its description."""
        content = {"name": self.name, "folder": self.chosen}
        write_text(self.home / ABOUT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def open_dataset(home: Path) -> DataSet | None:
    """The data set in a folder of the studio; None if there is none."""
    try:
        about: dict[str, Any] = json.loads((home / ABOUT).read_text(encoding="utf-8"))
        return DataSet(home.name, home, str(about["name"]), about["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_version(dataset: DataSet, places: Places) -> Path:
    """The folder that training reads, with the present captions: `metadata.jsonl` and links to the pictures in use.

    A version is never changed once it is whole, so that a run resumes with the data it began with; nothing is copied.
    Raises DataError.
    """
    table = dataset.table
    target = dataset.home / DATA / str(table.revision)
    if target.is_dir():
        return target
    partial = target.with_name(f".{target.name}.part")
    delete(partial)
    (partial / "pictures").mkdir(parents=True)
    source = dataset.source(places)
    folders: set[Path] = set()
    with table.reading() as connection, (partial / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
        rows = connection.execute("select key, file, caption from pictures where used order by key")
        for key, place, caption in rows:
            kind, _, name = place.partition("/")
            link = partial / "pictures" / data_key(key, place)
            if link.parent not in folders:
                link.parent.mkdir(parents=True, exist_ok=True)
                folders.add(link.parent)
            if kind == UNPACKED or dataset.chosen is None:
                _link_own(link, (dataset.unpacked if kind == UNPACKED else source) / name, dataset.home)
            else:
                link.symlink_to(source / name)
            if caption:
                lines = caption.split("\n")
                row = {"file_name": f"pictures/{data_key(key, place)}", "text": lines if len(lines) > 1 else lines[0]}
                metadata.write(json.dumps(row, ensure_ascii=False) + "\n")
    partial.rename(target)
    return target


def _link_own(link: Path, path: Path, home: Path) -> None:
    """Another name of a picture that the studio itself has written, so that it stays when a newer one takes its place.

    Where the file system has no such names, a link, relative so that the studio's folder can be moved.
    """
    try:
        os.link(path, link)
    except OSError:
        up = "/".join([".."] * (len(link.relative_to(home).parts) - 1))
        link.symlink_to(f"{up}/{path.relative_to(home)}")


def data_key(key: str, place: str) -> str:
    """The path of a picture below `pictures` in a version: its own, or of one from an archive a name that is safe."""
    kind, _, name = place.partition("/")
    return name if kind == UNPACKED else key


def prune_versions(dataset: DataSet, kept: set[str]) -> None:
    """Delete versions that are neither the newest nor named in `kept`."""
    folder = dataset.home / DATA
    newest = str(dataset.table.revision)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in kept and path.name != newest:
            shutil.rmtree(path, ignore_errors=True)
