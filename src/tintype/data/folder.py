"""Pairs from a folder: text files beside pictures, metadata files, and the tar files and tables that lie in it."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tintype.config import DataConfig
from tintype.data.captions import METADATA_NAMES, NO_CAPTION, read_caption_file, read_metadata
from tintype.data.files import Entry, FileError, LocalFile, Verified, shown, walk
from tintype.data.kinds import (
    ARCHIVE_SUFFIXES,
    CAPTION_SUFFIXES,
    COMPRESSED_SUFFIXES,
    PICTURE_SUFFIXES,
    TABLE_SUFFIXES,
    foreign,
)
from tintype.data.pairs import Listing, Pair, Problem, sorted_problems, substitute
from tintype.data.remote import Archive
from tintype.data.tables import list_table
from tintype.data.tars import list_tar
from tintype.errors import DataError, MissingExtraError

UNPACK = "compressed: unpack it"


def list_folder(folder: Path, options: DataConfig) -> Listing:
    """List the captioned pictures of a folder, sorted by key. No picture is opened.

    A row of a metadata file (in any folder; `file_name` is relative to it) comes before a text file. `cat.jpg` is
    captioned by `cat.jpg.txt`, `cat.txt`, `cat.jpg.caption` or `cat.caption`, the first that exists. Raises DataError,
    saying what was looked for, if not one pair is found.
    """
    found = _Folder(folder, options)
    found.read_rows()
    found.pictures.sort()
    pairs = [pair for key in found.pictures if (pair := found.pair(key)) is not None]
    found.note_unused()
    num_pictures = len(found.pictures)
    for listing in map(found.listing, found.bundles):
        pairs += listing.pairs
        found.problems += listing.problems
        num_pictures += listing.num_pictures
    if not pairs:
        raise DataError(_nothing_found(folder, found, num_pictures))
    pairs.sort(key=lambda pair: pair.key)
    return Listing(tuple(pairs), sorted_problems(found.problems), num_pictures)


class _Folder:
    """What lies in a data folder, while its pictures and captions are being matched."""

    def __init__(self, data: Path, options: DataConfig) -> None:
        self.options = options
        self.files: dict[str, LocalFile] = {}
        self.pictures: list[str] = []
        self.foreign: list[str] = []
        self.sidecars: dict[str, LocalFile] = {}  # caption files by their keys in NFC, the suffix in lower case
        self.bad_sidecars: dict[str, str] = {}  # key of a caption file -> why it cannot be read
        self.metadata: list[Entry] = []
        self.bundles: list[Entry] = []  # tar files and tables
        self.rows: dict[str, tuple[str, ...]] = {}
        self.sha256: dict[str, str] = {}  # that the metadata has, of some files
        self.bad_rows: dict[str, Problem] = {}
        self.used: dict[str, int] = {}  # key of a caption file -> number of pictures
        self.problems: list[Problem] = []
        for entry in walk(data):
            self._sort(entry)
        self._note_look_alikes()

    def _sort(self, entry: Entry) -> None:
        stem, suffix = posixpath.splitext(entry.key)
        suffix = suffix.lower()
        if posixpath.basename(entry.key) in METADATA_NAMES:
            self.metadata.append(entry)
        elif suffix in CAPTION_SUFFIXES:
            name = _nfc(entry.key if entry.key.endswith(suffix) else stem + suffix)
            self.sidecars[name] = replace(entry.place, state=b"")  # read at once, not later
            if entry.reason:
                self.bad_sidecars[entry.key] = entry.reason
        elif reason := foreign(suffix):
            self.foreign.append(entry.key)
            self.problem(entry.key, reason)
        elif suffix in (*ARCHIVE_SUFFIXES, ".parquet") and not entry.reason:
            self.files[entry.key] = entry.place
            self.bundles.append(entry)
        elif entry.key.lower().endswith(COMPRESSED_SUFFIXES):
            self.files[entry.key] = entry.place
            self.problem(entry.key, UNPACK)
        elif entry.reason:
            if suffix in PICTURE_SUFFIXES or suffix in ARCHIVE_SUFFIXES or entry.reason.startswith("the folder"):
                self.problem(entry.key, entry.reason)
        else:
            self.files[entry.key] = entry.place
            if suffix in PICTURE_SUFFIXES:
                self.pictures.append(entry.key)

    def _note_look_alikes(self) -> None:
        if len({_nfc(key).casefold() for key in self.pictures}) == len(self.pictures):
            return
        first: dict[str, str] = {}
        for key in sorted(self.pictures):
            if first.setdefault(_nfc(key).casefold(), key) != key:
                self.problem(key, f"its name is that of {first[_nfc(key).casefold()]} but for case or accents", False)

    def problem(self, path: str, reason: str, left_out: bool = True) -> None:
        self.problems.append(Problem(path, reason, left_out, self.files.get(path) if left_out else None))

    def listing(self, entry: Entry) -> Listing:
        """What lies in a tar file or a table of this folder."""
        if not entry.key.lower().endswith(ARCHIVE_SUFFIXES):
            try:
                return list_table(entry.path, entry.key, self.options)
            except MissingExtraError as error:
                return Listing((), (Problem(entry.key, str(error)),))
        info = entry.path.stat()
        return list_tar(Archive(str(entry.path), entry.place.state, info.st_size), entry.key, self.options)

    def read_rows(self) -> None:
        """Read the metadata files, one a folder."""
        if not self.metadata:
            return
        by_nfc = {_nfc(key): key for key in self.files}
        folders: dict[PurePosixPath, str] = {}
        for entry in sorted(self.metadata, key=lambda e: (e.key.count("/"), METADATA_NAMES.index(e.path.name), e.key)):
            folder = PurePosixPath(entry.key).parent
            if folder in folders:
                self.problem(entry.key, f"{folders[folder]} is beside it and is used instead", False)
                continue
            try:
                self._read_rows(entry, folder, by_nfc)
                folders[folder] = entry.path.name
            except (FileError, MissingExtraError) as error:
                self.problem(entry.key, str(error))

    def _read_rows(self, entry: Entry, folder: PurePosixPath, by_nfc: dict[str, str]) -> None:
        for row in read_metadata(entry.path, self.options.caption_encoding):
            where = f"{entry.key}:{row.line}"
            captions, reason = row.captions, row.reason
            if reason and row.file_name:
                captions = substitute(self.options.no_caption, row.file_name, reason)
            if not captions:
                self.problem(where, reason)
                named = by_nfc.get(_nfc(str(folder / row.file_name))) if row.file_name else None
                if named is not None:  # said once, here, and not again of the picture
                    self.bad_rows.setdefault(named, self.problems[-1])
                continue
            key = self._key_of(where, folder, row.file_name, by_nfc)
            if key is not None and key in self.rows:
                self.problem(where, "a second row for the same file: the first is used")
            elif key is not None:
                self.rows[key] = captions
                if row.sha256:
                    self.sha256[key] = row.sha256
                if posixpath.splitext(key)[1].lower() not in PICTURE_SUFFIXES:
                    self.pictures.append(key)

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
        place = self.files[key]
        stems = (_nfc(key), _nfc(posixpath.splitext(key)[0]))
        wanted = (stem + suffix for suffix in CAPTION_SUFFIXES for stem in stems)
        beside = [self.sidecars[name] for name in wanted if name in self.sidecars]
        for file in beside:
            self.used[file.key] = self.used.get(file.key, 0) + 1
        if key in self.rows:
            if beside:
                self.problem(beside[0].key, "the metadata has a row for its picture, which is used instead", False)
            sha256 = self.sha256.get(key)
            return Pair(key, place if sha256 is None else Verified(place, sha256), self.rows[key])
        if len(beside) > 1:
            self.problem(beside[1].key, "another caption file for the same picture is used instead", False)
        where, reason = key, NO_CAPTION
        if beside:
            where = beside[0].key
            try:
                if where in self.bad_sidecars:
                    raise FileError(self.bad_sidecars[where])
                return Pair(key, place, read_caption_file(beside[0].path, self.options.caption_encoding))
            except FileError as error:
                reason = str(error)
        elif key in self.bad_rows:
            return None
        instead = substitute(self.options.no_caption, key, reason)
        if instead:
            return Pair(key, place, instead)
        self.problem(where, reason if where == key else f"as the caption of a picture: {reason}")
        return None

    def note_unused(self) -> None:
        for file in self.sidecars.values():
            pictures = self.used.get(file.key, 0)
            if not pictures:
                self.problem(file.key, "there is no picture of this name", False)
            elif pictures > 1:
                self.problem(file.key, "several pictures share this caption file", False)


def _nfc(key: str) -> str:
    return key if key.isascii() else unicodedata.normalize("NFC", key)


def _misnamed(found: _Folder) -> str:
    tables = sorted(key for key in found.files if posixpath.splitext(key)[1].lower() in TABLE_SUFFIXES)
    return f"; {shown(tables[0])} is not read: is it one of these two?" if tables else ""


def _nothing_found(data: Path, found: _Folder, num_pictures: int) -> str:
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
    if num_pictures:
        return f"none of the {num_pictures} pictures in the files of {name} has a caption{first}"
    if found.bundles or (broken is not None and broken.reason == UNPACK):
        return f"{name} holds no captioned pictures{first}"
    if found.sidecars:
        return f"{name} holds {len(found.sidecars)} text files but no pictures: {advice}"
    if found.files:
        return f"{name} holds {len(found.files)} files but no pictures: {advice}"
    return f"{name} is empty: {advice}" if not found.problems else f"{name} holds nothing that can be read{first}"
