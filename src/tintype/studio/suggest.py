"""Suggested captions: a captioner looks at pictures of a data set and writes into its table, as one edit to undo."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tintype.data.images.decode import decode_image
from tintype.data.sources.files import FileError, read_file
from tintype.errors import TintypeError
from tintype.model.atomic_write import write_text
from tintype.studio import edits
from tintype.studio.caption_model import CaptionModel
from tintype.studio.dataset import DataSet
from tintype.studio.places import Places
from tintype.studio.scan import Progress
from tintype.studio.table import Selection

BATCH = 8  # pictures that the model looks at together
SIDE = 512  # pixels that are enough of a picture's shorter side
WISH = "suggest.json"  # what is wished, in the folder of the data set


@dataclass(frozen=True, slots=True)
class Wish:
    """Captions that are wished: of the rows, or of all pictures in use that have none."""

    captioner: str  # its name
    folder: str
    rows: tuple[int, ...] | None

    def save(self, dataset: DataSet) -> None:
        content = {"captioner": self.captioner, "folder": self.folder, "rows": self.rows}
        write_text(dataset.home / WISH, json.dumps(content))

    @classmethod
    def read(cls, dataset: DataSet) -> Wish:
        """The wish as it was stored. Raises TintypeError."""
        try:
            content = json.loads((dataset.home / WISH).read_text(encoding="utf-8"))
            rows = content["rows"]
            return cls(content["captioner"], content["folder"], None if rows is None else tuple(rows))
        except (OSError, ValueError, KeyError, TypeError):
            raise TintypeError("nobody knows any more which captions were wished; ask for them again") from None


def suggest(dataset: DataSet, places: Places) -> Progress:
    """Write captions as they are made, and yield (stage, done, total). Raises TintypeError.

    A caption that somebody writes meanwhile stays. Whoever ends the process keeps what is written by then; all of it is
    one edit, unless others come between.
    """
    wish = Wish.read(dataset)
    selection = Selection(None, "", "empty") if wish.rows is None else Selection(wish.rows)
    with dataset.table.reading() as connection:
        where, values = selection.where()
        rows = connection.execute(
            f"select row, key, file, caption from pictures where used and {where} order by key", values
        ).fetchall()
    yield "captioning", 0, len(rows)
    if not rows:
        return
    model = CaptionModel(Path(wish.folder))
    edit: int | None = None
    for start in range(0, len(rows), BATCH):
        batch = []
        for row, key, place, caption in rows[start : start + BATCH]:
            try:
                path = dataset.file(places, place)
                if path is not None:
                    batch.append((row, key, caption, decode_image(read_file(path), SIDE).picture.convert("RGB")))
            except FileError:
                continue  # the verdict has it
        if batch:
            texts = model.captions([picture for *_, picture in batch])
            before = {key: caption for _, key, caption, _ in batch}
            after = {key: edits.tidy(text) for (_, key, _, _), text in zip(batch, texts, strict=True)}
            change = edits.suggested(before, after)
            label = f"captions by {wish.captioner}"
            made = edits.apply(dataset.table, Selection(tuple(row for row, *_ in batch)), change, label, onto=edit)
            edit = edit if made is None else made.id
        yield "captioning", min(start + BATCH, len(rows)), len(rows)
