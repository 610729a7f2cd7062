"""Data folders: text files beside pictures, metadata files, and the archives that lie in them."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tintype.config import DataConfig
from tintype.data.sources.archives import Lister, lister_of
from tintype.data.sources.captions import MAX_CAPTION_BYTES, NO_CAPTION, decode_text, parse_captions
from tintype.data.sources.file_types import (
    CAPTION_SUFFIXES,
    COMPRESSED_SUFFIXES,
    PICTURE_SUFFIXES,
    TABLE_SUFFIXES,
    is_picture,
    unsupported,
)
from tintype.data.sources.files import FileError, ImageSource, Verified
from tintype.data.sources.metadata import METADATA_NAMES, Metadata, nfc
from tintype.data.sources.names import NO_WORDS, UNUSED, caption_by_name, offers, substitute
from tintype.data.sources.pair_list import PairList
from tintype.data.sources.pairs import NEITHER, Listing, Pair, Problem, Remarks, sorted_problems
from tintype.data.sources.repeats import repeating_folders
from tintype.data.sources.shapes_mark import DRAWN, SHAPES_MARK, is_mark
from tintype.data.sources.walk import OUTSIDE, Entry, Folder, walk
from tintype.errors import DataError, MissingExtraError
from tintype.printable import printable

UNPACK = "compressed: unpack it"
_ASIDE = (NO_CAPTION, NEITHER, DRAWN, UNUSED)  # reasons that say nothing of why there are no pairs


def list_folder(path: Path, options: DataConfig) -> Listing:
    """List the captioned pictures of a folder on disk, sorted by key. No picture is opened.

    Raises DataError, with the names that were looked for, if there is not one pair.
    """
    scan = _Scan(walk(path), options, path.resolve().name)
    if not scan.pairs:
        raise DataError(_nothing_found(path, scan))
    return scan.listing()


def list_tree(folders: Iterable[Folder], options: DataConfig, name: str) -> Listing:
    """List the captioned pictures of folders in the archive `name`, sorted by key. No picture is opened."""
    return _Scan(folders, options, name).listing()


class _Scan:
    """The pairs and problems of a tree of folders.

    A row of a metadata file (in any folder; `file_name` is relative to it) comes before a text file. `cat.jpg` is
    captioned by the first of `cat.jpg.txt`, `cat.txt`, `cat.jpg.caption` and `cat.caption`. Folders are matched one
    after another, so that memory grows with the largest of them only.
    """

    def __init__(self, folders: Iterable[Folder], options: DataConfig, name: str) -> None:
        self.options = options
        self.name = name  # of the data
        self.pairs = PairList()
        self.problems: list[Problem] = []
        self.remarks = Remarks()
        self.num_pictures = 0  # with or without a caption
        self.repeating: set[str] = set()  # folders of pictures whose names have the form `10_name`
        self.metadata = Metadata(options, self.problems.append)
        self.counts: Counter[str] = Counter()  # files by category: "picture", "captions", "metadata", "archive", ...
        self.first_keys: dict[str, str] = {}  # the first key of each category
        for folder in folders:
            if folder.reason:
                self.add_problem(folder.prefix.rstrip("/") or ".", folder.reason)
            else:
                _FolderScan(self, folder).run()
            if folder.outside:
                note = "a link to a folder outside the data folder, whose files are used"
                self.add_problem(folder.prefix.rstrip("/"), note, False)
        if self.counts["outside"]:
            note = f"{self.counts['outside']} pictures are links to files outside the data folder, and are used"
            self.add_problem(self.first_keys["outside"], note, False)
        self.problems += [*self.remarks.problems(), *self.metadata.missing()]
        self.pairs.sort()

    def listing(self) -> Listing:
        return Listing(self.pairs, sorted_problems(self.problems), self.num_pictures, frozenset(self.repeating))

    def add_problem(self, path: str, reason: str, left_out: bool = True, source: ImageSource | None = None) -> None:
        self.problems.append(Problem(path, reason, left_out, source))

    def add_listing(self, listing: Listing) -> None:
        self.pairs.extend(listing.pairs)
        self.problems += listing.problems
        self.num_pictures += listing.num_pictures
        self.repeating |= listing.repeating

    def count(self, category: str, key: str) -> None:
        self.counts[category] += 1
        self.first_keys[category] = min(key, self.first_keys.get(category, key))


class _FolderScan:
    """Matches the pictures and captions of one folder."""

    def __init__(self, scan: _Scan, folder: Folder) -> None:
        self._scan = scan
        self._folder = folder
        self._names = frozenset(folder.names)
        self._repeating = repeating_folders(folder.prefix)
        # Caption files by their names, the suffix in lower case; in `_forms`, these names are in NFC.
        self._sidecars: dict[str, str] = {}
        self._forms: dict[str, str] = {}
        self._num_pictures: Counter[str] = Counter()  # that each caption file belongs to
        for name in folder.names if not scan.options.caption_from else ():
            stem, suffix = posixpath.splitext(name)
            if suffix.lower() in CAPTION_SUFFIXES:
                self._sidecars[stem + suffix.lower()] = name
                self._forms[nfc(stem + suffix.lower())] = name

    def run(self) -> None:
        """Add the pairs and problems of the folder to the scan."""
        scan, prefix = self._scan, self._folder.prefix
        if not scan.options.caption_from:
            scan.metadata.read_folder(self._folder)
        for name in self._folder.names:
            is_caption = posixpath.splitext(name)[1].lower() in CAPTION_SUFFIXES
            if not is_caption and name not in METADATA_NAMES:
                self._add(name, self._folder.entry(name))
                continue
            scan.count("captions" if is_caption else "metadata", prefix + name)
            if scan.options.caption_from:
                scan.remarks.add(UNUSED, prefix + name)
        self._warn_of_similar_names()
        for name in self._sidecars.values():
            if self._num_pictures[name] != 1:
                shared = "several pictures share this caption file"
                reason = shared if self._num_pictures[name] else "no picture has this name"
                scan.add_problem(prefix + name, reason, False)

    def _add(self, name: str, entry: Entry) -> None:
        scan, suffix = self._scan, posixpath.splitext(name)[1].lower()
        lister = lister_of(name)
        if reason := unsupported(suffix):
            scan.count("unsupported", entry.key)
            scan.add_problem(entry.key, reason)
        elif entry.reason:
            scan.add_problem(entry.key, entry.reason, suffix in PICTURE_SUFFIXES or lister is not None)
        elif suffix in PICTURE_SUFFIXES or scan.metadata.has_row(entry.key, self._names):
            self._add_picture(entry)
        elif lister is not None:
            self._add_archive(name, entry, lister)
        elif name.lower().endswith(COMPRESSED_SUFFIXES):
            scan.count("file", entry.key)
            scan.add_problem(entry.key, UNPACK, source=entry.source)
        elif suffix not in TABLE_SUFFIXES and self._is_picture(entry):
            self._add_picture(entry)
        else:
            scan.count("table" if suffix in TABLE_SUFFIXES else "file", entry.key)
            if name == SHAPES_MARK and is_mark(entry.source):
                scan.add_problem(entry.key, DRAWN, False)
            else:
                scan.remarks.add(NEITHER, entry.key)

    def _is_picture(self, entry: Entry) -> bool:
        """Whether a file without a known suffix begins like a picture; one that cannot be read is reported."""
        try:
            return is_picture(entry.source.head())
        except FileError as error:
            self._scan.add_problem(entry.key, str(error), False)
            return False

    def _add_archive(self, name: str, entry: Entry, lister: Lister) -> None:
        self._scan.count("archive", entry.key)
        try:
            archive = self._folder.archive(name)
            if archive is None:
                raise FileError("an archive inside another is not read: unpack it")
            listing = lister(archive, entry.key, self._scan.options)
            if listing.pairs:
                self._scan.repeating.update(self._repeating)
        except (DataError, MissingExtraError) as error:
            listing = Listing((), (Problem(entry.key, str(error)),))
        self._scan.add_listing(listing)

    def _add_picture(self, entry: Entry) -> None:
        """Add a picture with its captions, or a problem."""
        scan, key, prefix = self._scan, entry.key, self._folder.prefix
        scan.count("picture", key)
        scan.num_pictures += 1
        scan.repeating.update(self._repeating)
        if entry.outside:
            scan.count("outside", key)
        sidecars = self._caption_files(posixpath.basename(key))
        self._num_pictures.update(sidecars)
        row = scan.metadata.pop(key, self._names)
        if row is not None:
            if sidecars:
                reason = "not used: the metadata file has a row for this picture"
                scan.add_problem(prefix + sidecars[0], reason, False)
            source = Verified(entry.source, row.sha256) if row.sha256 else entry.source
            scan.pairs.append(Pair(key, source, row.captions))
            return
        for other in sidecars[1:2]:
            scan.add_problem(prefix + other, "not used: the picture has another caption file", False)
        if sidecars or not scan.metadata.was_reported(key):
            self._add_with_sidecar(entry, sidecars[0] if sidecars else "")

    def _caption_files(self, name: str) -> list[str]:
        """The caption files of a picture, the one to use first: in the form of its own name, or else in any other."""
        stems = (name, posixpath.splitext(name)[0])
        names = [stem + suffix for suffix in CAPTION_SUFFIXES for stem in stems]
        files = (self._sidecars.get(name, self._forms.get(nfc(name))) for name in names)
        return list(dict.fromkeys(file for file in files if file is not None))

    def _add_with_sidecar(self, entry: Entry, sidecar: str) -> None:
        """Add a picture with the captions of a file beside it, or with a substitute without one ("")."""
        scan, reason = self._scan, NO_CAPTION
        captions: tuple[str, ...] = ()
        if scan.options.caption_from:
            caption = caption_by_name(scan.options.caption_from, entry.key, scan.name)
            captions, reason = ((caption,), "") if caption else ((), NO_WORDS)
        elif sidecar:
            try:
                captions = self._read_captions(sidecar)
            except FileError as error:
                reason = str(error)
        captions = captions or substitute(scan.options, entry.key, reason)
        if captions:
            scan.pairs.append(Pair(entry.key, entry.source, captions))
        elif sidecar:
            scan.add_problem(self._folder.prefix + sidecar, f"as the caption of a picture: {reason}")
        else:
            scan.add_problem(entry.key, reason, source=entry.source)

    def _read_captions(self, name: str) -> tuple[str, ...]:
        """Read a caption file. Raises FileError."""
        entry = self._folder.entry(name)
        if entry.reason or entry.outside:
            raise FileError(entry.reason or OUTSIDE)
        return parse_captions(decode_text(entry.source.read(MAX_CAPTION_BYTES), self._scan.options.caption_encoding))

    def _warn_of_similar_names(self) -> None:
        first: dict[str, str] = {}
        prefix = self._folder.prefix
        for name in self._folder.names:
            if posixpath.splitext(name)[1].lower() in PICTURE_SUFFIXES:
                other = first.setdefault(nfc(name).casefold(), name)
                if other != name:
                    reason = f"its name differs from {prefix}{other} only in case or accents"
                    self._scan.add_problem(prefix + name, reason, False)


def _nothing_found(path: Path, scan: _Scan) -> str:
    """Say why a folder gives no pairs, and what to put there."""
    name, counts, first_keys = printable(str(path)), scan.counts, scan.first_keys
    broken = next((p for p in sorted_problems(scan.problems) if p.reason not in _ASIDE), None)
    first = f"; first problem: {printable(broken.path)}: {broken.reason}" if broken is not None else ""
    if scan.options.caption_from and scan.num_pictures:
        return f"the names of pictures in {name} have no words for captions{first}"
    if counts["picture"]:
        picture = PurePosixPath(first_keys["picture"])
        file_name, stem = printable(picture.name), printable(picture.stem)
        which = "the only picture" if counts["picture"] == 1 else f"none of the {counts['picture']} pictures"
        verb = "has no caption" if counts["picture"] == 1 else "has a caption"
        table = f"; {printable(first_keys['table'])} is not read: give it one of these names" if counts["table"] else ""
        return (
            f"{which} in {name} {verb}: looked for {stem}.txt, {stem}.caption, and a row with file_name and text "
            f"for {file_name} in metadata.jsonl or metadata.csv{table}{first}{_offers(scan)}"
        )
    advice = "put PNG, JPEG or WebP pictures there, each with its caption in a .txt file of the same name"
    if counts["unsupported"]:
        return f"{name} holds no picture that can be read{first}"
    if counts["metadata"]:
        return f"{name} holds {PurePosixPath(first_keys['metadata']).name} but no pictures that it names{first}"
    if scan.num_pictures:
        return f"none of the {scan.num_pictures} pictures in the files of {name} has a caption{first}{_offers(scan)}"
    if counts["archive"] or (broken is not None and broken.reason == UNPACK):
        return f"{name} holds no captioned pictures{first}"
    if counts["captions"]:
        return f"{name} holds {counts['captions']} text files but no pictures: {advice}"
    if counts["file"] or counts["table"]:
        return f"{name} holds {counts['file'] + counts['table']} files but no pictures: {advice}"
    return f"{name} is empty: {advice}" if not scan.problems else f"{name} holds nothing that can be read{first}"


def _offers(scan: _Scan) -> str:
    offered = offers(scan.problems)
    return f"; {offered}" if offered else ""
