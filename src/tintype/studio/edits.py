"""Edits of captions: operations on one picture or many, each of which can be undone and redone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tintype.data.sources.captions import MAX_CAPTION_BYTES, clean_caption
from tintype.data.sources.names import caption_by_name
from tintype.studio.table import Selection, Table, raise_revision, write_captions

EXAMPLES = 20  # of a preview
MAX_TEXT = 10_000  # characters of a caption, of a text that is searched for, or of one that is added
KEPT_EDITS = 200  # that can be undone

# A new caption and whether the picture is used, from its key, caption, original caption and whether it is used.
Change = Callable[[str, str, str, bool], tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit that was made."""

    id: int
    label: str
    changed: int  # pictures

    @property
    def told(self) -> str:
        """The edit in words."""
        return f"{self.label}: {self.changed:,} picture{'' if self.changed == 1 else 's'}"

    def json(self) -> dict[str, Any]:
        return {"id": self.id, "label": self.label, "changed": self.changed}


@dataclass(frozen=True, slots=True)
class Example:
    """What an edit would do to one picture."""

    row: int
    key: str
    before: str
    after: str


def replaced(find: str, by: str, *, match_case: bool = False, words: bool = False) -> Change:
    """Replace a text in captions; `words`: only where it stands as whole words."""
    pattern = re.compile(
        rf"(?<!\w){re.escape(find)}(?!\w)" if words else re.escape(find), 0 if match_case else re.IGNORECASE
    )
    return lambda key, caption, original, used: (tidy(pattern.sub(lambda _: by, caption)), used)


def added(text: str, separator: str, *, before: bool) -> Change:
    """Add a text to every caption of a picture, unless it is there already; to an empty caption without a separator."""
    text = clean_caption(text)

    def line(caption: str) -> str:
        if not caption:
            return text
        return f"{text}{separator}{caption}" if before else f"{caption}{separator}{text}"

    def change(key: str, caption: str, original: str, used: bool) -> tuple[str, bool]:
        has = re.compile(rf"(?<!\w){re.escape(text)}(?!\w)", re.IGNORECASE)
        lines = [old if has.search(old) else line(old) for old in caption.split("\n")]
        return tidy("\n".join(lines)), used

    return change


def named(source: str, data_name: str, *, only_empty: bool) -> Change:
    """Take the words in the names of files, folders or paths as captions; names without words change nothing."""

    def change(key: str, caption: str, original: str, used: bool) -> tuple[str, bool]:
        if only_empty and caption:
            return caption, used
        return caption_by_name(source, key, data_name) or caption, used

    return change


def given(text: str) -> Change:
    """The same caption for all."""
    text = tidy(text)
    return lambda key, caption, original, used: (text, used)


def suggested(before: Mapping[str, str], after: Mapping[str, str]) -> Change:
    """Captions by key; one that is no longer as it was before stays, and an empty suggestion changes nothing."""

    def change(key: str, caption: str, original: str, used: bool) -> tuple[str, bool]:
        return (after[key] or caption) if caption == before[key] else caption, used

    return change


def reset(key: str, caption: str, original: str, used: bool) -> tuple[str, bool]:
    """The caption that the files had."""
    return original, used


def using(use: bool) -> Change:
    """Leave pictures out of training, or use them again."""
    return lambda key, caption, original, used: (caption, use)


def tidy(caption: str) -> str:
    """A caption as training reads it: each line clean, empty lines and repeated ones left out."""
    lines = (clean_caption(line) for line in caption.splitlines())
    return "\n".join(dict.fromkeys(line for line in lines if line))


def preview(table: Table, selection: Selection, change: Change) -> tuple[int, list[Example]]:
    """How many pictures an edit would change, and the first few."""
    with table.reading() as connection:
        changes = _changes(connection, selection, change)
    return len(changes), [Example(row, key, before, after) for row, key, before, after, _, _ in changes[:EXAMPLES]]


def apply(table: Table, selection: Selection, change: Change, label: str, onto: int | None = None) -> Edit | None:
    """Make an edit in one transaction; None if it changes nothing. What was undone before can no longer be redone.

    onto: the edit that this one continues, so that both are undone together, unless another came between. They must not
    change the same pictures.
    """
    with table.writing() as connection:
        changes = _changes(connection, selection, change)
        if not changes:
            return None
        connection.execute("delete from changes where edit in (select id from edits where undone)")
        connection.execute("delete from edits where undone")
        number, total = _begun(connection, label, len(changes), onto)
        connection.executemany(
            "insert into changes values (?, ?, ?, ?, ?, ?)",
            ((number, row, before, after, was, now) for row, _, before, after, was, now in changes),
        )
        write_captions(connection, [(row, key, after, now) for row, key, _, after, _, now in changes])
        connection.execute("delete from changes where edit <= ?", [number - KEPT_EDITS])
        connection.execute("delete from edits where id <= ?", [number - KEPT_EDITS])
    return Edit(number, label, total)


def _begun(connection: Any, label: str, changed: int, onto: int | None) -> tuple[int, int]:
    """The number of an edit of so many pictures, and of how many it is with the one that it continues."""
    if onto is not None and connection.execute("select max(id) from edits").fetchone() == (onto,):
        connection.execute("update edits set changed = changed + ? where id = ?", [changed, onto])
        (total,) = connection.execute("select changed from edits where id = ?", [onto]).fetchone()
        return onto, total
    number = connection.execute("insert into edits (label, changed) values (?, ?)", [label, changed]).lastrowid
    assert number is not None
    return number, changed


def undo(table: Table) -> Edit | None:
    """Take back the last edit; None without one."""
    return _turn(table, "select max(id) from edits where not undone", "before", "used_before", 1)


def redo(table: Table) -> Edit | None:
    """Make the edit again that was undone last; None without one."""
    return _turn(table, "select min(id) from edits where undone", "after", "used_after", 0)


def history(table: Table) -> tuple[int, Edit | None, Edit | None]:
    """The number of edits, the one that undo takes back, and the one that redo makes again."""
    with table.reading() as connection:
        (num,) = connection.execute("select count(*) from edits where not undone").fetchone()
        queries = ("where not undone order by id desc", "where undone order by id")
        rows = [connection.execute(f"select id, label, changed from edits {q} limit 1").fetchone() for q in queries]
    last, following = (None if row is None else Edit(*row) for row in rows)
    return num, last, following


def _turn(table: Table, which: str, caption: str, used: str, undone: int) -> Edit | None:
    with table.writing() as connection:
        (number,) = connection.execute(which).fetchone()
        if number is None:
            return None
        rows = connection.execute(
            f"select changes.row, key, {caption}, {used} from changes join pictures using (row) where edit = ?",
            [number],
        ).fetchall()
        write_captions(connection, [(row, key, text, bool(use)) for row, key, text, use in rows])
        raise_revision(connection)
        connection.execute("update edits set undone = ? where id = ?", [undone, number])
        (label,) = connection.execute("select label from edits where id = ?", [number]).fetchone()
    return Edit(number, label, len(rows))


def _changes(connection: Any, selection: Selection, change: Change) -> list[tuple[int, str, str, str, bool, bool]]:
    """What a change does: (row, key, caption before and after, used before and after) of each picture it changes.

    A caption that would become too long stays as it is.
    """
    where, values = selection.where()
    query = f"select row, key, caption, original, used from pictures where {where} order by key"
    changes = []
    for row, key, caption, original, used in connection.execute(query, values):
        after, now = change(key, caption, original, bool(used))
        if (after, now) != (caption, bool(used)) and len(after.encode()) <= MAX_CAPTION_BYTES:
            changes.append((row, key, caption, after, bool(used), now))
    return changes
