"""The scan of a data set: its pictures and captions are listed into its table. Edited captions stay."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tintype.config import DataConfig
from tintype.data.sources.file_types import PICTURE_SUFFIXES
from tintype.data.sources.files import FileError, LocalFile
from tintype.data.sources.find import find_pairs
from tintype.data.sources.pairs import Pair, Problem
from tintype.errors import DataError
from tintype.model.atomic_write import write_text
from tintype.studio.dataset import STALE, UNPACKED, DataSet
from tintype.studio.places import Places, is_inside, safe_parts
from tintype.studio.table import raise_revision, search_columns, set_fact

OUTSIDE = "a link out of the folders that the studio may read: copy the file there"
RESERVE = 512 * 2**20  # bytes of the disk that unpacking leaves free
EVERY = 100  # pictures between reports of progress
Progress = Generator[tuple[str, int, int], None, None]


def scan(dataset: DataSet, places: Places) -> Progress:
    """List the pictures of a data set into its table, and yield (stage, done, total).

    Pictures in archives are unpacked into the studio's folder, because their captions are edited there; all others stay
    where they are. Raises DataError.
    """
    yield "listing", 0, 0
    source = dataset.source(places)
    pairs, problems = _list_uploaded(source) if dataset.chosen is None else _list(source)
    listed: list[tuple[Pair, str]] = []
    bounds = _Bounds(places.root, dataset.home)
    taken: set[str] = set()
    for done, pair in enumerate(pairs, start=1):
        try:
            listed.append((pair, _place(pair, source, dataset, bounds, taken)))
        except FileError as error:
            problems.append(Problem(pair.key.encode("utf-8", "backslashreplace").decode(), str(error)))
        if done % EVERY == 0 or done == len(pairs):
            yield "listing", done, len(pairs)
    with dataset.table.writing() as connection:
        _store(connection, listed)
    _write_problems(dataset.problems, problems)
    (dataset.home / STALE).unlink(missing_ok=True)


def _list(source: Path) -> tuple[Sequence[Pair], list[Problem]]:
    """The pictures with and without captions; a source without any picture gives the reason as a problem."""
    try:
        return find_pairs(source, replace(DataConfig.of_new_runs(), no_caption="empty"))
    except DataError as error:
        return (), [Problem(".", str(error).replace(str(source), source.name))]


def _list_uploaded(folder: Path) -> tuple[Sequence[Pair], list[Problem]]:
    """The pictures in a folder and in the zip files in it, which a data source reads only by themselves."""
    packs = sorted(path for path in folder.rglob("*.zip") if path.is_file() and not path.is_symlink())
    pairs, problems = _list(folder)
    if not packs:
        return pairs, problems
    listed = list(pairs)
    names = [path.relative_to(folder).as_posix() for path in packs]
    found = [] if not listed else [problem for problem in problems if problem.path not in names]
    for path, name in zip(packs, names, strict=True):
        inner, more = _list(path)  # keys begin with the name of the file
        above = name[: -len(path.name)]
        listed += [replace(pair, key=above + pair.key) for pair in inner]
        found += [replace(problem, path=name if problem.path == "." else above + problem.path) for problem in more]
    return listed, found


class _Bounds:
    """Whether files that may be links stay within the folders that the studio may read."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._known: dict[str, str] = {}  # folder -> the same without links

    def allow(self, path: str) -> bool:
        folder, name = os.path.split(path)
        real = self._known.get(folder)
        if real is None:
            real = self._known[folder] = os.path.realpath(folder)
        target = os.path.realpath(path) if os.path.islink(path) else os.path.join(real, name)
        return any(is_inside(Path(target), allowed) for allowed in self._folders)


def _place(pair: Pair, source: Path, dataset: DataSet, bounds: _Bounds, taken: set[str]) -> str:
    """Where the bytes of a picture are: `source/PATH` or `unpacked/PATH`. Raises FileError."""
    if any("\ud800" <= sign <= "\udfff" for sign in pair.key):
        raise FileError("its name is not UTF-8: rename it")
    file = pair.source
    inner = getattr(file, "inner", file)  # of a file whose hash is known
    if isinstance(inner, LocalFile):
        if not bounds.allow(os.path.join(inner.root, inner.key)):
            raise FileError(OUTSIDE)
        return f"source/{pair.key}"
    name = _free_name(pair.key, taken)
    target = dataset.unpacked / name
    content = file.read()
    if shutil.disk_usage(dataset.home).free < RESERVE + len(content):
        raise DataError("the disk has no room to unpack the pictures; free some space")
    if not (target.is_file() and target.stat().st_size == len(content) and target.read_bytes() == content):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return f"{UNPACKED}/{name}"


def _free_name(key: str, taken: set[str]) -> str:
    """A safe path for a picture of an archive: its own where that is safe and free, whatever the letter case."""
    suffix = PurePosixPath(key).suffix.lower()
    parts = safe_parts(key)
    name = "/".join(parts) if parts and suffix in PICTURE_SUFFIXES else ""
    if not name or name.casefold() in taken:
        name = f"numbered/{len(taken):07d}{suffix if suffix in PICTURE_SUFFIXES else ''}"
    taken.add(name.casefold())
    return name


def _store(connection: sqlite3.Connection, listed: Iterable[tuple[Pair, str]]) -> None:
    """Bring the table up to date, within a transaction."""
    known = {
        key: (row, caption, original)
        for row, key, caption, original in connection.execute("select row, key, caption, original from pictures")
    }
    seen: set[str] = set()
    for pair, place in listed:
        original = "\n".join(filter(None, pair.captions))
        seen.add(pair.key)
        row, caption, before = known.get(pair.key, (None, original, original))
        if caption == before:  # never edited: follow the file
            caption = original
        folded, same = search_columns(pair.key, caption)
        if row is None:
            connection.execute(
                "insert into pictures (key, file, caption, original, folded, same) values (?, ?, ?, ?, ?, ?)",
                [pair.key, place, caption, original, folded, same],
            )
        else:
            connection.execute(
                "update pictures set file = ?, caption = ?, original = ?, folded = ?, same = ?, unread = null, "
                "cut = null where row = ?",
                [place, caption, original, folded, same, row],
            )
    gone = json.dumps([row for key, (row, _, _) in known.items() if key not in seen])
    connection.execute("delete from pictures where row in (select value from json_each(?))", [gone])
    raise_revision(connection)
    set_fact(connection, "encoder", "")


def _write_problems(path: Path, problems: Iterable[Problem]) -> None:
    lines = (
        json.dumps({"path": p.path, "reason": p.reason, "left_out": p.left_out, "files": p.number}) for p in problems
    )
    write_text(path, "".join(f"{line}\n" for line in lines))
