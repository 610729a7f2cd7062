"""Data sources: from a path, URL, data set name or Python object to pairs of pictures and captions.

DATA is one of
- a folder: pictures with text files beside them, metadata files, tar files and Parquet tables, in any depth;
- a .tar file of samples or a .zip file of a folder, or several by a pattern such as train-{000..009}.tar, here or at a
  URL that fsspec knows;
- a .parquet file with pictures and captions inside;
- `hf:NAME` or `hf:NAME:SPLIT`, a data set by its name or folder, through the package `datasets`;
- a text file with one of these a line, each with `weight=W` after it if it is to be shown more or less often;
- from Python, an object with a length whose items are (picture, caption).
"""

from __future__ import annotations

import glob
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tintype.config import DataConfig
from tintype.data.sources.archives import LISTERS, lister_of
from tintype.data.sources.captions import decode_text
from tintype.data.sources.file_types import COMPRESSED_SUFFIXES, PICTURE_SUFFIXES, is_picture
from tintype.data.sources.files import FileError, LocalFile, read_file
from tintype.data.sources.folder import list_folder
from tintype.data.sources.hub import is_saved, list_hub
from tintype.data.sources.metadata import METADATA_NAMES
from tintype.data.sources.names import offers
from tintype.data.sources.objects import Data, list_objects
from tintype.data.sources.pair_list import PairList
from tintype.data.sources.pairs import Listing, Pair, Problem, sorted_problems
from tintype.data.sources.remote import MAX_EXPANDED, Archive, expand, is_url, local_archive, remote_archives
from tintype.data.sources.repeats import with_repeats
from tintype.data.sources.webdataset import list_tar
from tintype.data.sources.zip import list_zip
from tintype.errors import DataError
from tintype.printable import printable

__all__ = ["Pair", "Problem", "find_pairs", "dataset_name"]

MAX_LIST_BYTES = 2**24
_WEIGHT = re.compile(r"\s+weight=(\S+)$")
_LISTERS = {**LISTERS, ".zip": list_zip}  # of all archive formats
_SUFFIXES = " or ".join(_LISTERS)


def find_pairs(data: Data, options: DataConfig | None = None) -> tuple[Sequence[Pair], list[Problem]]:
    """List the captioned pictures of `data`, and the problems of the rest. No picture is opened.

    The order of pairs follows from the data alone; within a folder it is that of the keys. Raises DataError if there is
    not one pair, and MissingExtraError where another package is needed.
    """
    options = options or DataConfig()
    listing = _list_source(str(data), options) if isinstance(data, (str, Path)) else list_objects(data, options)
    listing = with_repeats(listing, options.repeats)
    if not listing.pairs:
        first = next((p for p in listing.problems if p.left_out), None)
        why = f": {printable(first.path)}: {first.reason}" if first is not None else ""
        if offered := offers(listing.problems):
            why += f"; {offered}"
        raise DataError(f"{printable(data_label(data))} holds no captioned pictures{why}")
    return listing.pairs, list(listing.problems)


def data_label(data: Data) -> str:
    """The data in messages: the path or URL; of an object, its class."""
    return str(data) if isinstance(data, (str, Path)) else f"data ({type(data).__name__})"


def dataset_name(data: Data) -> str:
    """A short name for people: the last part of a path or URL; of an object, its class."""
    if not isinstance(data, (str, Path)):
        return type(data).__name__
    text = str(data).rstrip("/\\")
    if is_url(text) or text.startswith("hf:"):
        return PurePosixPath(text).name or text
    return Path(text).resolve().name or text


def _list_source(data: str, options: DataConfig, in_list: bool = False) -> Listing:
    if data.startswith("hf:"):
        return list_hub(data.removeprefix("hf:"), options)
    if is_url(data) and not data.startswith("file://"):
        return _list_archives(remote_archives(data), options)
    path = Path(data.removeprefix("file://"))
    if not _exists(path) and (glob.has_magic(data) or "{" in data):
        return _list_archives(_matching(str(path)), options)
    if not _exists(path):
        raise DataError(f"there is no folder {printable(data)}: give the folder that holds the pictures")
    if path.is_dir():
        return list_hub(data, options) if is_saved(path) else list_folder(path, options)
    return _list_file(path, options, in_list)


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def _list_file(path: Path, options: DataConfig, in_list: bool) -> Listing:
    name, lower = printable(str(path)), path.name.lower()
    if path.name in METADATA_NAMES:
        raise DataError(f"{name} is a file: give the folder it lies in, {printable(str(path.parent))}")
    if (lister := lister_of(path.name, _LISTERS)) is not None:
        return lister(local_archive(path), path.name, options)
    if lower.endswith(COMPRESSED_SUFFIXES):
        raise DataError(f"{name} is compressed: unpack it and give the .tar file or the folder")
    if path.suffix.lower() in PICTURE_SUFFIXES or _is_picture(path):
        raise DataError(f"{name} is not a folder: give the folder that holds the pictures")
    if path.suffix.lower() in (".txt", ".list", "") and in_list:
        raise DataError(f"{name} is a text file in a list: list only folders and {_SUFFIXES} files")
    if path.suffix.lower() in (".txt", ".list", ""):
        return _list_mixture(path, options)
    raise DataError(f"{name} is not a folder, a {_SUFFIXES} file, or a .txt file that lists them")


def _is_picture(path: Path) -> bool:
    try:
        return is_picture(LocalFile("", str(path), b"").head())
    except FileError:
        return False


def _matching(pattern: str) -> list[tuple[str, Archive]]:
    """Find the local archives that match a pattern. Raises DataError."""
    paths = []
    for single in expand(pattern):
        paths += sorted(itertools.islice(glob.iglob(single), MAX_EXPANDED + 1)) or [single]
        if len(paths) > MAX_EXPANDED:
            raise DataError(f"{printable(pattern)} stands for more than {MAX_EXPANDED:,} files")
    return [(Path(path).name, local_archive(Path(path))) for path in paths]


def _list_archives(archives: list[tuple[str, Archive]], options: DataConfig) -> Listing:
    names = _distinct([name for name, _ in archives])
    return _join(_list_archive(archive, name, options) for name, (_, archive) in zip(names, archives, strict=True))


def _list_archive(archive: Archive, name: str, options: DataConfig) -> Listing:
    """List one of several archives; a name without a known suffix is taken for a tar file."""
    return (lister_of(archive.path, _LISTERS) or list_tar)(archive, name, options)


def _list_mixture(path: Path, options: DataConfig) -> Listing:
    """Mix the sources in a text file. A source that cannot be used becomes a problem of its line."""
    try:
        lines = decode_text(read_file(path, MAX_LIST_BYTES)).splitlines()
    except FileError as error:
        raise DataError(f"{printable(str(path))}: {error}") from None
    numbered = ((number, line.strip()) for number, line in enumerate(lines, start=1))
    sources = [(number, line) for number, line in numbered if line and not line.startswith("#")]
    if not sources:
        raise DataError(f"{printable(str(path))} lists nothing: write a folder or an archive on each line")
    parsed = [_parse_line(path, number, line) for number, line in sources]
    names = _distinct([dataset_name(source) for source, _ in parsed])
    return _join(
        _list_line(f"{path.name}:{number}", name, source, weight, options)
        for (number, _), (source, weight), name in zip(sources, parsed, names, strict=True)
    )


def _list_line(where: str, name: str, source: str, weight: float, options: DataConfig) -> Listing:
    """List one source of a mixture; keys begin with `name`."""
    try:
        listing = _list_source(source, options, in_list=True)
    except DataError as error:
        return Listing((), (Problem(where, str(error)),))
    pairs = (replace(pair, key=f"{name}/{pair.key}", weight=weight * pair.weight) for pair in listing.pairs)
    problems = tuple(replace(problem, path=f"{name}/{problem.path}") for problem in listing.problems)
    repeating = frozenset(f"{name}/{folder}" for folder in listing.repeating)
    return Listing(PairList(pairs), problems, listing.num_pictures, repeating)


def _parse_line(path: Path, number: int, line: str) -> tuple[str, float]:
    """The source and weight on one line of a list; paths are relative to the list. Raises DataError."""
    suffix = _WEIGHT.search(line)
    weight = 1.0
    if suffix is not None:
        line = line[: suffix.start()]
        try:
            weight = float(suffix[1])
        except ValueError:
            weight = math.nan
        if not 0 < weight <= 1e6:
            raise DataError(
                f"{printable(str(path))}:{number}: weight must be a number above 0, not {printable(suffix[1])}"
            )
    if is_url(line) or line.startswith("hf:"):
        return line, weight
    return str(path.parent / line), weight


def _distinct(names: list[str]) -> list[str]:
    """Make names distinct with #2, #3, ... after repeated ones."""
    counts: dict[str, int] = {}
    distinct = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        distinct.append(name if counts[name] == 1 else f"{name}#{counts[name]}")
    return distinct


def _join(listings: Iterable[Listing]) -> Listing:
    pairs = PairList()
    problems: list[Problem] = []
    num_pictures = 0
    repeating: set[str] = set()
    for listing in listings:
        pairs.extend(listing.pairs)
        problems += listing.problems
        num_pictures += listing.num_pictures
        repeating |= listing.repeating
    return Listing(pairs, sorted_problems(problems), num_pictures, frozenset(repeating))
