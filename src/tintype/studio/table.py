"""The table of pictures of a data set, with their captions: an SQLite file, read in windows of any data set's size."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

FORMAT = 1  # of the file, in its `user_version`
SECONDS = 15.0  # to wait for another writer
FILTERS = ("all", "empty", "repeated", "edited", "left_out", "unread", "cut")
_SCHEMA = """
create table if not exists pictures (
  row integer primary key,
  key text not null unique,        -- path below the data, with forward slashes
  file text not null,              -- where its bytes are: see `scan`
  caption text not null,           -- lines: each is a caption
  original text not null,          -- as the files had it
  folded text not null,            -- caption and key for searches, in small letters
  same text not null,              -- caption without case and spaces, by which repeated ones are found
  used integer not null default 1, -- 0: the person left it out
  unread text,                     -- JSON list of what the text encoder does not know; null: not looked at yet
  cut integer                      -- tokens that the encoder cuts off
);
create index if not exists pictures_same on pictures (same);
create table if not exists edits (id integer primary key autoincrement, label text not null, undone integer not null
  default 0, changed integer not null);
create table if not exists changes (edit integer not null, row integer not null, before text not null, after text not
  null, used_before integer not null, used_after integer not null);
create index if not exists changes_edit on changes (edit);
create table if not exists facts (name text primary key, value text not null);
"""


class Picture(NamedTuple):
    """A row of the table."""

    row: int
    key: str
    caption: str
    original: str
    used: bool
    unread: list[str] | None
    cut: int | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Some rows: by number, or by a search and a filter; neither means all."""

    rows: tuple[int, ...] | None = None
    query: str = ""
    filter: str = "all"

    def where(self) -> tuple[str, list[Any]]:
        """A condition of SQL, and its values."""
        if self.rows is not None:  # as JSON, because SQLite limits the number of values
            return "row in (select value from json_each(?))", [json.dumps(self.rows)]
        conditions, values = [_CONDITIONS[self.filter]], list[Any]()
        if self.query:
            conditions.append("instr(folded, ?) > 0")
            values.append(self.query.casefold())
        return " and ".join(conditions), values


_CONDITIONS = {
    "all": "1",
    "empty": "same = ''",
    "repeated": "same != '' and same in (select same from pictures group by same having count(*) > 1)",
    "edited": "caption != original",
    "left_out": "used = 0",
    "unread": "unread != '[]'",
    "cut": "cut > 0",
}


class Table:
    """The pictures of one data set. Threads and processes may share the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for a few queries."""
        with closing(self._connect()) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it happens, or nothing."""
        with closing(self._connect()) as connection:
            connection.execute("begin immediate")
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                connection.execute("rollback")
                raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=SECONDS, isolation_level=None)
        connection.execute("pragma synchronous = normal")
        if connection.execute("pragma user_version").fetchone() == (0,):  # a new file
            connection.execute("pragma journal_mode = wal")
            connection.executescript(f"{_SCHEMA} pragma user_version = {FORMAT};")
        return connection

    def window(self, selection: Selection, offset: int, limit: int) -> tuple[int, list[Picture]]:
        """How many rows a selection has, and some of them, in the order of their paths."""
        where, values = selection.where()
        with self.reading() as connection:
            (total,) = connection.execute(f"select count(*) from pictures where {where}", values).fetchone()
            rows = connection.execute(
                f"select row, key, caption, original, used, unread, cut from pictures where {where} order by key "
                "limit ? offset ?",
                [*values, limit, offset],
            ).fetchall()
        return total, [_picture(row) for row in rows]

    def rows(self, selection: Selection) -> list[int]:
        """The numbers of a selection's rows, in the order of their paths."""
        where, values = selection.where()
        with self.reading() as connection:
            return [
                row for (row,) in connection.execute(f"select row from pictures where {where} order by key", values)
            ]

    def tallies(self) -> dict[str, int | None]:
        """How many rows each filter keeps; None where captions were not looked at yet."""
        with self.reading() as connection:
            (unseen,) = connection.execute("select count(*) from pictures where unread is null").fetchone()
            sums = ", ".join(f"coalesce(sum({_CONDITIONS[name]}), 0)" for name in FILTERS)
            tallies = connection.execute(f"select {sums} from pictures").fetchone()
        unknown = ("unread", "cut") if unseen else ()
        return {name: None if name in unknown else num for name, num in zip(FILTERS, tallies, strict=True)}

    def picture(self, row: int) -> tuple[Picture, str] | None:
        """One row and the place of its file; None without it."""
        with self.reading() as connection:
            found = connection.execute(
                "select row, key, caption, original, used, unread, cut, file from pictures where row = ?", [row]
            ).fetchone()
        return None if found is None else (_picture(found[:7]), found[7])

    def rows_of(self, keys: Iterable[str]) -> dict[str, tuple[int, str]]:
        """Row and caption of pictures, by their keys; unknown keys are left out."""
        with self.reading() as connection:
            found = connection.execute(
                "select key, row, caption from pictures where key in (select value from json_each(?))",
                [json.dumps(list(keys))],
            ).fetchall()
        return {key: (row, caption) for key, row, caption in found}

    def counts(self) -> dict[str, int]:
        """Pictures, those with and without a caption, those left out, and those with a caption that are no copies.

        Copies and near-duplicates are those that the last check found.
        """
        with self.reading() as connection:
            pictures, captioned, left_out = connection.execute(
                "select count(*), coalesce(sum(same != '' and used), 0), coalesce(sum(not used), 0) from pictures"
            ).fetchone()
            (empty,) = connection.execute("select count(*) from pictures where same = ''").fetchone()
            copies = connection.execute("select value from facts where name = 'copies'").fetchone()
        different = max(0, captioned - int(copies[0] if copies else 0))
        counts = {"pictures": pictures, "captioned": captioned, "empty": empty, "left_out": left_out}
        return {**counts, "different": different}

    def fact(self, name: str, default: str = "") -> str:
        """A fact about the whole data set, as it was stored."""
        with self.reading() as connection:
            row = connection.execute("select value from facts where name = ?", [name]).fetchone()
        return default if row is None else str(row[0])

    @property
    def revision(self) -> int:
        """A number that grows with every change of captions or pictures."""
        return int(self.fact("revision", "0"))


def set_fact(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Store a fact within a transaction."""
    connection.execute("insert or replace into facts values (?, ?)", [name, value])


def raise_revision(connection: sqlite3.Connection) -> None:
    """Note, within a transaction, that captions or pictures have changed."""
    connection.execute(
        "insert into facts values ('revision', '1') on conflict do update set value = cast(value as integer) + 1"
    )


def search_columns(key: str, caption: str) -> tuple[str, str]:
    """The columns `folded` and `same` of a row."""
    return f"{caption}\n{key}".casefold(), " ".join(caption.casefold().split())


def write_captions(connection: sqlite3.Connection, rows: Sequence[tuple[int, str, str, bool]]) -> None:
    """Change rows within a transaction: (row, key, caption, used) of each."""
    connection.executemany(
        "update pictures set caption = ?, folded = ?, same = ?, used = ?, "
        "unread = case when caption = ? then unread end, cut = case when caption = ? then cut end where row = ?",
        (
            (caption, *search_columns(key, caption), int(used), caption, caption, row)
            for row, key, caption, used in rows
        ),
    )
    raise_revision(connection)


def _picture(row: Sequence[Any]) -> Picture:
    number, key, caption, original, used, unread, cut = row
    return Picture(number, key, caption, original, bool(used), None if unread is None else json.loads(unread), cut)
