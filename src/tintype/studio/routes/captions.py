"""Routes of captions: windows, searches, edits, undo."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tintype.serving.api.errors import ApiError, bad_request
from tintype.studio import edits, legibility
from tintype.studio.caption_files import caption_zip
from tintype.studio.dataset import DataSet
from tintype.studio.edits import Change
from tintype.studio.routes.bodies import Empty, Filter, OneCaption, Operation, Suggest
from tintype.studio.routes.datasets import Limit, Offset
from tintype.studio.studio import Studio
from tintype.studio.table import Picture, Selection

Rows = Annotated[str, Query(pattern=r"^([0-9]{1,15}(,[0-9]{1,15}){0,499})?$")]  # up to 500 numbers with commas
LABELS = {
    "replace": "search and replace",
    "append": "text added",
    "prepend": "text added",
    "names": "captions from names",
    "set": "one caption for all",
    "reset": "captions of the files",
    "use": "pictures left out or used",
}


def router(studio: Studio) -> APIRouter:
    """The routes under /api/studio/datasets/{number}/captions, undo and redo."""
    routes = APIRouter(prefix="/studio/datasets/{number}")

    @routes.get("/captions/rows")
    async def found(
        number: str, q: Annotated[str, Query(max_length=1000)] = "", filter: Filter = "all"
    ) -> dict[str, Any]:
        """The numbers of all pictures that a search finds, and how many each filter would keep."""
        return await asyncio.to_thread(_found, studio.dataset(number), Selection(None, q, filter))

    @routes.get("/captions")
    async def window(
        number: str,
        offset: Offset = 0,
        limit: Limit = 100,
        q: Annotated[str, Query(max_length=1000)] = "",
        filter: Filter = "all",
        rows: Rows = "",
    ) -> dict[str, Any]:
        """Some pictures with their captions, in the order of their paths: a window, or those with some numbers."""
        if rows:
            numbers = tuple(int(row) for row in rows.split(","))
            return await asyncio.to_thread(_window, studio.dataset(number), Selection(numbers), 0, len(numbers))
        return await asyncio.to_thread(_window, studio.dataset(number), Selection(None, q, filter), offset, limit)

    @routes.get("/captions.zip", response_class=StreamingResponse)
    async def files(number: str, pictures: bool = False) -> StreamingResponse:
        """The captions as text files, and the pictures beside them on request."""
        dataset = studio.dataset(number)
        name = f"{dataset.id}-{'pictures' if pictures else 'captions'}.zip"
        return StreamingResponse(
            caption_zip(dataset, studio.places, pictures=pictures),
            media_type="application/zip",
            headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
        )

    @routes.patch("/captions/{row}", response_class=JSONResponse)
    async def one(number: str, row: int, body: OneCaption) -> Response:
        """Change one caption."""
        return await asyncio.to_thread(_one, studio.dataset(number), row, body)

    @routes.post("/captions")
    async def many(number: str, body: Operation) -> dict[str, Any]:
        """Change many captions, or say what would change."""
        return await asyncio.to_thread(_many, studio, studio.dataset(number), body)

    @routes.post("/captions/suggest", status_code=202)
    async def suggest(number: str, body: Suggest) -> dict[str, Any]:
        """Have a model of this machine look at the pictures and write captions."""
        task = await asyncio.to_thread(studio.suggest, studio.dataset(number), body.captioner, body.rows)
        return task.json()

    @routes.post("/undo")
    async def undo(number: str, body: Empty) -> dict[str, Any]:
        """Take back the last edit."""
        return await asyncio.to_thread(_turn, studio, studio.dataset(number), True)

    @routes.post("/redo")
    async def redo(number: str, body: Empty) -> dict[str, Any]:
        """Make the edit again that was undone last."""
        return await asyncio.to_thread(_turn, studio, studio.dataset(number), False)

    return routes


def _found(dataset: DataSet, selection: Selection) -> dict[str, Any]:
    if selection.filter in ("unread", "cut"):
        legibility.look(dataset)
    return {"rows": dataset.table.rows(selection), "counts": dataset.table.tallies()}


def _window(dataset: DataSet, selection: Selection, offset: int, limit: int) -> dict[str, Any]:
    if selection.filter in ("unread", "cut"):
        legibility.look(dataset)
    total, pictures = dataset.table.window(selection, offset, limit)
    if any(picture.unread is None for picture in pictures):
        legibility.look(dataset, Selection(tuple(picture.row for picture in pictures)))
        total, pictures = dataset.table.window(selection, offset, limit)
    return {"total": total, "offset": offset, "pictures": [_json(picture) for picture in pictures]}


def _json(picture: Picture) -> dict[str, Any]:
    return {
        "row": picture.row,
        "path": picture.key,
        "caption": picture.caption,
        "original": picture.original,
        "edited": picture.caption != picture.original,
        "left_out": not picture.used,
        "unread": picture.unread,
        "cut": picture.cut,
    }


def _one(dataset: DataSet, row: int, body: OneCaption) -> Response:
    found = dataset.table.picture(row) if 0 <= row < 2**62 else None
    if found is None:
        raise ApiError(404, "there is no such picture", "picture_not_found")
    before = found[0].caption
    if body.before is not None and body.before != before:
        error = ApiError(409, "the caption was changed meanwhile, perhaps in another tab", "changed_meanwhile")
        return JSONResponse({**error.body(), "caption": before}, 409)
    selection = Selection((row,))
    edit = edits.apply(dataset.table, selection, edits.given(body.caption), "one caption")
    legibility.look(dataset, selection)
    after = dataset.table.picture(row)
    assert after is not None
    return JSONResponse({**_json(after[0]), "edit": None if edit is None else edit.json()})


def _many(studio: Studio, dataset: DataSet, body: Operation) -> dict[str, Any]:
    if body.rows is not None and body.where is not None:
        raise bad_request("give rows or where, not both", "rows")
    if body.rows is not None:
        selection = Selection(tuple(body.rows))
    else:
        selection = Selection() if body.where is None else Selection(None, body.where.q, body.where.filter)
    if selection.filter in ("unread", "cut"):
        legibility.look(dataset)
    change = _change(dataset, body)
    if body.preview:
        num, examples = edits.preview(dataset.table, selection, change)
        shown = [{"row": e.row, "path": e.key, "before": e.before, "after": e.after} for e in examples]
        return {"changes": num, "examples": shown}
    edit = edits.apply(dataset.table, selection, change, LABELS[body.op])
    return {"edit": None if edit is None else edit.json(), "dataset": studio.describe(dataset)}


def _change(dataset: DataSet, body: Operation) -> Change:
    if body.op == "replace":
        if not body.find:
            raise bad_request("find must not be empty", "find")
        return edits.replaced(body.find, body.by, match_case=body.match_case, words=body.words)
    if body.op in ("append", "prepend"):
        if not body.text.strip():
            raise bad_request("text must not be empty", "text")
        return edits.added(body.text, body.separator, before=body.op == "prepend")
    if body.op == "names":
        name = dataset.name if dataset.chosen is None else dataset.chosen.rpartition("/")[2]
        return edits.named(body.source, name, only_empty=body.only_empty)
    if body.op == "set":
        return edits.given(body.caption)
    return edits.reset if body.op == "reset" else edits.using(body.use)


def _turn(studio: Studio, dataset: DataSet, back: bool) -> dict[str, Any]:
    edit = edits.undo(dataset.table) if back else edits.redo(dataset.table)
    if edit is None:
        word = "undo" if back else "redo"
        raise ApiError(409, f"there is nothing to {word}", f"nothing_to_{word}")
    return {"edit": edit.json(), "dataset": studio.describe(dataset)}
