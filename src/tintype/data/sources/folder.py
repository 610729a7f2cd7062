"""Pairs from a folder: text files beside pictures, metadata files, and the tar files and tables that lie in it."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from pathlib import Path, PurePosixPath

from tintype.config import DataConfig
from tintype.data.sources.captions import NO_CAPTION, read_caption_file
from tintype.data.sources.file_types import (
    ARCHIVE_SUFFIXES,
    CAPTION_SUFFIXES,
    COMPRESSED_SUFFIXES,
    PICTURE_SUFFIXES,
    TABLE_SUFFIXES,
    unsupported,
)
from tintype.data.sources.files import Entry, FileError, Folder, ImageSource, LocalFile, Verified, printable, walk
from tintype.data.sources.metadata import METADATA_NAMES, Metadata, nfc
from tintype.data.sources.pair_list import PairList
from tintype.data.sources.pairs import Listing, Pair, Problem, sorted_problems, substitute
from tintype.data.sources.parquet import list_table
from tintype.data.sources.remote import Archive
from tintype.data.sources.webdataset import list_tar
from tintype.errors import DataError, MissingExtraError

UNPACK = "compressed: unpack it"


def list_folder(folder: Path, options: DataConfig) -> Listing:
    """List the captioned pictures of a folder, sorted by key. No picture is opened.

    A row of a metadata file (in any folder; `file_name` is relative to it) comes before a text file. `cat.jpg` is
    captioned by `cat.jpg.txt`, `cat.txt`, `cat.jpg.caption` or `cat.caption`, the first that exists. One folder after
    another is looked at, so that memory grows with the largest of them only. Raises DataError, saying what was looked
    for, if not one pair is found.
    """
    found = _Found(folder, options)
    for part in walk(folder):
        if part.reason:
            found.problem(part.prefix.rstrip("/") or ".", part.reason)
        else:
            _InFolder(found, part).take()
    found.problems += found.metadata.missing()
    if not found.pairs:
        raise DataError(_nothing_found(folder, found))
    found.pairs.sort()
    return Listing(found.pairs, sorted_problems(found.problems), found.num_pictures)


class _Found:
    """What was found in a data folder so far."""

    def __init__(self, data: Path, options: DataConfig) -> None:
        self.options = options
        self.pairs = PairList()
        self.problems: list[Problem] = []
        self.num_pictures = 0  # with or without a caption
        self.metadata = Metadata(data, options, self.problems.append)
        self.kinds: Counter[str] = Counter()  # how many files of a kind
        self.first: dict[str, str] = {}  # the first key of a kind

    def problem(self, path: str, reason: str, left_out: bool = True, source: ImageSource | None = None) -> None:
        self.problems.append(Problem(path, reason, left_out, source))

    def count(self, kind: str, key: str) -> None:
        self.kinds[kind] += 1
        self.first[kind] = min(key, self.first.get(kind, key))


class _InFolder:
    """The files of one folder, while its pictures and captions are being matched."""

    def __init__(self, found: _Found, folder: Folder) -> None:
        self._found = found
        self._folder = folder
        self._sidecars: dict[str, str] = {}  # caption files by their names in NFC, the suffix in lower case
        self._used: Counter[str] = Counter()  # number of pictures that have a caption file
        for name in folder.names:
            stem, suffix = posixpath.splitext(name)
            if suffix.lower() in CAPTION_SUFFIXES:
                self._sidecars[nfc(stem + suffix.lower())] = name

    def take(self) -> None:
        """Add what is in the folder to what was found."""
        found, prefix = self._found, self._folder.prefix
        found.metadata.read_folder(prefix, self._folder.names)
        for name in self._folder.names:
            if name in METADATA_NAMES:
                found.count("metadata", prefix + name)
            elif posixpath.splitext(name)[1].lower() in CAPTION_SUFFIXES:
                found.count("captions", prefix + name)
            else:
                self._take(self._folder.entry(name))
        self._note_look_alikes()
        for name in self._sidecars.values():
            if self._used[name] != 1:
                why = (
                    "several pictures share this caption file"
                    if self._used[name]
                    else "there is no picture of this name"
                )
                found.problem(prefix + name, why, False)

    def _take(self, entry: Entry) -> None:
        found, suffix = self._found, posixpath.splitext(entry.key)[1].lower()
        if reason := unsupported(suffix):
            found.count("foreign", entry.key)
            found.problem(entry.key, reason)
        elif entry.reason:
            if suffix in PICTURE_SUFFIXES or suffix in ARCHIVE_SUFFIXES:
                found.problem(entry.key, entry.reason)
        elif suffix in PICTURE_SUFFIXES or found.metadata.names(entry.key):
            self._pair(entry)
        elif suffix in (*ARCHIVE_SUFFIXES, ".parquet"):
            self._bundle(entry)
        elif entry.key.lower().endswith(COMPRESSED_SUFFIXES):
            found.count("file", entry.key)
            found.problem(entry.key, UNPACK, source=entry.source)
        else:
            found.count("table" if suffix in TABLE_SUFFIXES else "file", entry.key)

    def _bundle(self, entry: Entry) -> None:
        """Add what lies in a tar file or a table."""
        found = self._found
        found.count("bundle", entry.key)
        if entry.key.lower().endswith(ARCHIVE_SUFFIXES):
            archive = Archive(str(entry.source.path), entry.source.fingerprint, entry.source.path.stat().st_size)
            listing = list_tar(archive, entry.key, found.options)
        else:
            try:
                listing = list_table(entry.source.path, entry.key, found.options)
            except MissingExtraError as error:
                listing = Listing((), (Problem(entry.key, str(error)),))
        found.pairs.extend(listing.pairs)
        found.problems += listing.problems
        found.num_pictures += listing.num_pictures

    def _pair(self, entry: Entry) -> None:
        """Give a picture its captions, or list it as a problem."""
        found, key = self._found, entry.key
        found.count("picture", key)
        found.num_pictures += 1
        stems = (nfc(posixpath.basename(key)), nfc(posixpath.splitext(posixpath.basename(key))[0]))
        wanted = (stem + suffix for suffix in CAPTION_SUFFIXES for stem in stems)
        beside = [self._sidecars[name] for name in wanted if name in self._sidecars]
        self._used.update(beside)
        row = found.metadata.take(key)
        if row is not None:
            if beside:
                why = "the metadata has a row for its picture, which is used instead"
                found.problem(self._folder.prefix + beside[0], why, False)
            source = Verified(entry.source, row.sha256) if row.sha256 else entry.source
            found.pairs.append(Pair(key, source, row.captions))
            return
        for other in beside[1:2]:
            why = "another caption file for the same picture is used instead"
            found.problem(self._folder.prefix + other, why, False)
        if beside or not found.metadata.was_listed(key):
            self._captioned(key, entry.source, beside[0] if beside else "")

    def _captioned(self, key: str, source: LocalFile, sidecar: str) -> None:
        """Add a picture with the captions in a file beside it, or with what is to be used without."""
        found, where, reason = self._found, key, NO_CAPTION
        captions: tuple[str, ...] = ()
        if sidecar:
            where = self._folder.prefix + sidecar
            text = self._folder.entry(sidecar)
            try:
                if text.reason:
                    raise FileError(text.reason)
                name = os.path.join(text.source.root, text.key)  # a Path would intern each of its parts
                captions = read_caption_file(name, found.options.caption_encoding)
            except FileError as error:
                reason = str(error)
        captions = captions or substitute(found.options.no_caption, key, reason)
        if captions:
            found.pairs.append(Pair(key, source, captions))
        elif sidecar:
            found.problem(where, f"as the caption of a picture: {reason}")
        else:
            found.problem(where, reason, source=source)

    def _note_look_alikes(self) -> None:
        first: dict[str, str] = {}
        for name in self._folder.names:
            if posixpath.splitext(name)[1].lower() in PICTURE_SUFFIXES:
                other = first.setdefault(nfc(name).casefold(), name)
                if other != name:
                    prefix = self._folder.prefix
                    why = f"its name is that of {prefix}{other} but for case or accents"
                    self._found.problem(prefix + name, why, False)


def _nothing_found(data: Path, found: _Found) -> str:
    name, kinds, first_of = printable(str(data)), found.kinds, found.first
    broken = next((p for p in sorted_problems(found.problems) if p.reason != NO_CAPTION), None)
    first = f"; first problem: {printable(broken.path)}: {broken.reason}" if broken is not None else ""
    if kinds["picture"]:
        path = PurePosixPath(first_of["picture"])
        picture, stem = printable(path.name), printable(path.stem)
        which = "the only picture" if kinds["picture"] == 1 else f"none of the {kinds['picture']} pictures"
        has = "has no caption" if kinds["picture"] == 1 else "has a caption"
        table = f"; {printable(first_of['table'])} is not read: is it one of these two?" if kinds["table"] else ""
        return (
            f"{which} in {name} {has}: looked for {stem}.txt, {stem}.caption, and a row with file_name and text "
            f"for {picture} in metadata.jsonl or metadata.csv{table}{first}"
        )
    advice = "put PNG, JPEG or WebP pictures there, each with its caption in a .txt file of the same name"
    if kinds["foreign"]:
        return f"{name} holds no picture that can be read{first}"
    if kinds["metadata"]:
        return f"{name} holds {PurePosixPath(first_of['metadata']).name} but no pictures that it names{first}"
    if found.num_pictures:
        return f"none of the {found.num_pictures} pictures in the files of {name} has a caption{first}"
    if kinds["bundle"] or (broken is not None and broken.reason == UNPACK):
        return f"{name} holds no captioned pictures{first}"
    if kinds["captions"]:
        return f"{name} holds {kinds['captions']} text files but no pictures: {advice}"
    if kinds["file"] or kinds["table"]:
        return f"{name} holds {kinds['file'] + kinds['table']} files but no pictures: {advice}"
    return f"{name} is empty: {advice}" if not found.problems else f"{name} holds nothing that can be read{first}"
