"""Where pairs of picture and captions come from: a folder with text files or metadata files in it."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tintype.data.captions import METADATA_NAMES, read_caption_file, read_metadata
from tintype.data.files import Entry, FileError, shown, walk
from tintype.errors import DataError

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".apng"}
)
FOREIGN_SUFFIXES = frozenset(
    {".heic", ".heif", ".jxl", ".psd", ".svg", ".eps", ".jp2", ".tga", ".ico", ".raw", ".dng", ".cr2", ".nef", ".arw"}
)
CAPTION_SUFFIXES = (".txt", ".caption")
NO_CAPTION = "it has no caption"
_TABLE_SUFFIXES = (".jsonl", ".json", ".json1", ".ndjson", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and its captions."""

    key: str  # path relative to the data folder, with forward slashes; unique
    path: Path
    captions: tuple[str, ...]  # at least one


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the data that is not as it should be."""

    path: str  # relative to the data folder; FILE:LINE for a line of a metadata file
    reason: str
    left_out: bool = True  # False: it is used, but the user should know


def find_pairs(data: Path) -> tuple[list[Pair], list[Problem]]:
    """List the captioned pictures of a folder, sorted by key, and what was left out. No picture is opened.

    A row of metadata.jsonl or metadata.csv (in any folder; `file_name` is relative to it) comes before a text file, and
    metadata.jsonl before metadata.csv. `cat.jpg` is captioned by `cat.jpg.txt`, `cat.txt`, `cat.jpg.caption` or
    `cat.caption`, the first that exists. Raises DataError if not one pair is found.
    """
    data = Path(data)
    _require_folder(data)
    found = _Folder(data)
    found.read_rows()
    pairs = [pair for key in sorted(found.pictures) if (pair := found.pair(key)) is not None]
    found.note_unused()
    if not pairs:
        raise DataError(_nothing_found(data, found))
    return pairs, sorted(found.problems, key=lambda problem: problem.path)


class _Folder:
    """What lies in a data folder, while its pictures and captions are being matched."""

    def __init__(self, data: Path) -> None:
        self.files: dict[str, Path] = {}
        self.pictures: set[str] = set()
        self.foreign: list[str] = []
        self.sidecars: dict[tuple[str, str], Entry] = {}  # (stem in NFC, suffix) -> caption file
        self.metadata: list[Entry] = []
        self.rows: dict[str, tuple[str, ...]] = {}
        self.used: dict[str, list[str]] = defaultdict(list)  # caption file -> pictures
        self.problems: list[Problem] = []
        for entry in walk(data):
            self._sort(entry)

    def _sort(self, entry: Entry) -> None:
        name = PurePosixPath(entry.key)
        suffix = name.suffix.lower()
        if name.name in METADATA_NAMES:
            self.metadata.append(entry)
        elif suffix in CAPTION_SUFFIXES:
            self.sidecars[_nfc(str(name.with_suffix(""))), suffix] = entry
        elif suffix in FOREIGN_SUFFIXES:
            self.foreign.append(entry.key)
            self.problem(entry.key, f"{suffix} files cannot be read: convert to PNG or JPEG")
        elif entry.reason:
            if suffix in PICTURE_SUFFIXES or entry.reason.startswith("the folder"):
                self.problem(entry.key, entry.reason)
        else:
            self.files[entry.key] = entry.path
            if suffix in PICTURE_SUFFIXES:
                self.pictures.add(entry.key)

    def problem(self, path: str, reason: str, left_out: bool = True) -> None:
        self.problems.append(Problem(path, reason, left_out))

    def read_rows(self) -> None:
        by_nfc = {_nfc(key): key for key in self.files}
        folders: set[PurePosixPath] = set()
        for entry in sorted(self.metadata, key=lambda e: (e.key.count("/"), METADATA_NAMES.index(e.path.name), e.key)):
            folder = PurePosixPath(entry.key).parent
            if folder in folders:
                self.problem(entry.key, "metadata.jsonl is beside it and is used instead")
                continue
            try:
                for row in read_metadata(entry.path):
                    where = f"{entry.key}:{row.line}"
                    key = None if row.reason else self._key_of(where, folder, row.file_name, by_nfc)
                    if row.reason:
                        self.problem(where, row.reason)
                    elif key is not None and key in self.rows:
                        self.problem(where, "a second row for the same file: the first is used")
                    elif key is not None:
                        self.rows[key] = row.captions
                        self.pictures.add(key)
                folders.add(folder)
            except FileError as error:
                self.problem(entry.key, str(error))

    def _key_of(self, where: str, folder: PurePosixPath, name: str, by_nfc: dict[str, str]) -> str | None:
        """Find the file that a row names, however its path is written; list a problem if there is none."""
        for spelled in (name, name.replace("\\", "/")):
            path = PurePosixPath(spelled)
            if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:[\\/]", name):
                self.problem(where, "its file_name leads outside of the data folder")
                return None
            key = by_nfc.get(_nfc(str(folder / path)))
            if key is not None:
                return key
        self.problem(where, "the file it names is missing")
        return None

    def pair(self, key: str) -> Pair | None:
        """Give a picture its captions, or list it as a problem."""
        path = self.files[key]
        name = PurePosixPath(key)
        beside = [
            self.sidecars[stem, suffix]
            for suffix in CAPTION_SUFFIXES
            for stem in (_nfc(key), _nfc(str(name.with_suffix(""))))
            if (stem, suffix) in self.sidecars
        ]
        for entry in beside:
            self.used[entry.key].append(key)
        if key in self.rows:
            if beside:
                self.problem(beside[0].key, "the metadata has a row for its picture, which is used instead", False)
            return Pair(key, path, self.rows[key])
        if not beside:
            self.problem(key, NO_CAPTION)
            return None
        if len(beside) > 1:
            self.problem(beside[1].key, "another caption file for the same picture is used instead", False)
        try:
            if beside[0].reason:
                raise FileError(beside[0].reason)
            return Pair(key, path, read_caption_file(beside[0].path))
        except FileError as error:
            self.problem(beside[0].key, f"as the caption of a picture: {error}")
            return None

    def note_unused(self) -> None:
        for entry in self.sidecars.values():
            pictures = self.used.get(entry.key, [])
            if not pictures:
                self.problem(entry.key, "there is no picture of this name", False)
            elif len(pictures) > 1:
                self.problem(entry.key, "several pictures share this caption file", False)


def _nfc(key: str) -> str:
    return unicodedata.normalize("NFC", key)


def _require_folder(data: Path) -> None:
    try:
        data.stat()
    except OSError:
        raise DataError(f"there is no folder {shown(str(data))}: give the folder that holds the pictures") from None
    if data.is_dir():
        return
    name = shown(str(data))
    if data.suffix.lower() == ".tar" or data.name.lower().endswith((".tar.gz", ".tgz", ".zip")):
        raise DataError(f"{name} is an archive, not supported in this version yet: unpack it and give the folder")
    if data.name in METADATA_NAMES:
        raise DataError(f"{name} is a file: give the folder it lies in, {shown(str(data.parent))}")
    if data.suffix.lower() in (".txt", ".list"):
        raise DataError(f"{name} is a file; lists are not supported in this version yet: give the folder of pictures")
    raise DataError(f"{name} is not a folder: give the folder that holds the pictures")


def _misnamed(found: _Folder) -> str:
    tables = sorted(key for key in found.files if PurePosixPath(key).suffix.lower() in _TABLE_SUFFIXES)
    return f"; {shown(tables[0])} is not read: is it one of these two?" if tables else ""


def _nothing_found(data: Path, found: _Folder) -> str:
    name = shown(str(data))
    broken = next((problem for problem in found.problems if problem.reason != NO_CAPTION), None)
    first = f"; first problem: {shown(broken.path)}: {broken.reason}" if broken is not None else ""
    if found.pictures:
        picture = shown(PurePosixPath(min(found.pictures)).name)
        stem = shown(PurePosixPath(min(found.pictures)).stem)
        count = len(found.pictures)
        which = "the only picture" if count == 1 else f"none of the {count} pictures"
        has = "has no caption" if count == 1 else "has a caption"
        return (
            f"{which} in {name} {has}: looked for {stem}.txt, {stem}.caption, and a row with file_name and text "
            f"for {picture} in metadata.jsonl or metadata.csv{_misnamed(found)}{first}"
        )
    advice = "put PNG, JPEG or WebP pictures there, each with its caption in a .txt file of the same name"
    if found.foreign:
        return f"{name} holds no picture that can be read{first}"
    if found.metadata:
        return f"{name} holds {found.metadata[0].path.name} but no pictures that it names{first}"
    if any(key.lower().endswith(".tar") for key in found.files):
        return f"{name} holds tar files, not supported in this version yet: unpack them into a folder"
    if found.sidecars:
        return f"{name} holds {len(found.sidecars)} text files but no pictures: {advice}"
    if found.files:
        return f"{name} holds {len(found.files)} files but no pictures: {advice}"
    return f"{name} is empty: {advice}" if not found.problems else f"{name} holds nothing that can be read{first}"
