"""What the text encoder cannot read of captions, and how much it cuts, kept in the table of a data set."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from tintype.config import TextConfig
from tintype.data.check.legibility import BATCH, choose_encoder
from tintype.model.atomic_write import write_text
from tintype.model.nets.legibility import FrozenReader, LearnedReader
from tintype.model.nets.tokens import encoder_folder, learn_tokenizer
from tintype.studio.dataset import DataSet
from tintype.studio.table import Selection, set_fact

VOCABULARY = "tokenizer.json"  # of the encoder "learned", in the folder of the data set


def choose(dataset: DataSet) -> str:
    """The text encoder that training would choose for the present captions; it is stored with them."""
    table = dataset.table
    with table.reading() as connection:
        encoder, _ = choose_encoder(_captions(connection))
        if encoder == "learned":
            write_text(dataset.home / VOCABULARY, learn_tokenizer(list(_captions(connection)))[0])
    with table.writing() as connection:
        set_fact(connection, "encoder", encoder)
        connection.execute("update pictures set unread = null, cut = null")
    return encoder


def look(dataset: DataSet, selection: Selection | None = None) -> None:
    """Look at the captions of a selection, or of all, that were not looked at since they changed."""
    table = dataset.table
    where, values = (selection or Selection()).where()
    with table.reading() as connection:
        rows = connection.execute(
            f"select row, caption from pictures where unread is null and ({where})", values
        ).fetchall()
    if not rows:
        return
    reader = _reader(dataset, table.fact("encoder") or "minilm")
    limit = TextConfig().max_tokens
    found = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        found += [
            (json.dumps(words, ensure_ascii=False), cut, row, caption)
            for row, caption, words, cut in _read(reader, batch, limit)
        ]
    with table.writing() as connection:
        connection.executemany("update pictures set unread = ?, cut = ? where row = ? and caption = ?", found)


def _read(
    reader: FrozenReader | LearnedReader, rows: Sequence[tuple[int, str]], limit: int
) -> Iterator[tuple[int, str, list[str], int]]:
    """Row, caption, what is unknown in it, and the tokens that are cut, of its longest line."""
    lines = [line for _, caption in rows for line in caption.split("\n")]
    unknown, tokens = iter(reader.illegible(lines)), iter(reader.token_ids(lines))
    for row, caption in rows:
        words: dict[str, None] = {}
        cut = 0
        for _ in caption.split("\n"):
            words.update(dict.fromkeys(next(unknown)))
            cut = max(cut, len(next(tokens)) + reader.num_marks - limit)
        yield row, caption, list(words), cut


def _reader(dataset: DataSet, encoder: str) -> FrozenReader | LearnedReader:
    path = dataset.home / VOCABULARY
    if encoder == "learned" and path.is_file():
        return _learned(path, path.stat().st_mtime_ns)
    return _frozen()


@lru_cache(maxsize=1)
def _frozen() -> FrozenReader:
    return FrozenReader(encoder_folder("minilm"))


@lru_cache(maxsize=2)
def _learned(path: Path, changed: int) -> LearnedReader:
    from tokenizers import Tokenizer

    return LearnedReader(Tokenizer.from_str(path.read_text(encoding="utf-8")))


def _captions(connection: sqlite3.Connection) -> Iterator[str]:
    for (caption,) in connection.execute("select caption from pictures where used and caption != ''"):
        yield from caption.split("\n")
