"""Routes of data sets: folders to choose, scans, the verdict, thumbnails."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from tintype.data.sources.file_types import CAPTION_SUFFIXES, PICTURE_SUFFIXES
from tintype.data.sources.files import FileError
from tintype.serving.api.errors import ApiError
from tintype.studio.places import Places, is_inside
from tintype.studio.routes.bodies import CheckBody, Empty, NewDataset, PlanBody, Rename
from tintype.studio.studio import Studio
from tintype.studio.uploads import ARCHIVE_SUFFIXES
from tintype.studio.verdict import read_verdict

Offset = Annotated[int, Query(ge=0, le=10**9)]
Limit = Annotated[int, Query(ge=1, le=500)]


def router(studio: Studio) -> APIRouter:
    """The routes under /api/studio/folders and /api/studio/datasets."""
    routes = APIRouter(prefix="/studio")

    @routes.get("/folders")
    async def folders(path: str = "", offset: Offset = 0, limit: Limit = 500) -> dict[str, Any]:
        """The folders and archives in a folder below the root."""
        return await asyncio.to_thread(_listing, studio.places, path, offset, limit)

    @routes.post("/datasets", status_code=201)
    async def create(body: NewDataset) -> dict[str, Any]:
        """A new data set; that of a folder is scanned at once."""
        return await asyncio.to_thread(_created, studio, body)

    @routes.get("/datasets/{number}")
    async def dataset(number: str) -> dict[str, Any]:
        """A data set."""
        return await asyncio.to_thread(lambda: studio.describe(studio.dataset(number)))

    @routes.patch("/datasets/{number}")
    async def rename(number: str, body: Rename) -> dict[str, Any]:
        """Give a data set another name; its identifier stays."""
        renamed = replace(studio.dataset(number), name=body.name)
        await asyncio.to_thread(renamed.save)
        return await asyncio.to_thread(studio.describe, renamed)

    @routes.delete("/datasets/{number}")
    async def delete(number: str) -> dict[str, Any]:
        """Move a data set to the trash."""
        return (await asyncio.to_thread(studio.delete_dataset, studio.dataset(number))).json()

    @routes.post("/datasets/{number}/scan", status_code=202)
    async def scan(number: str, body: Empty) -> dict[str, Any]:
        """List the pictures again, and check them."""
        return studio.scan(studio.dataset(number)).json()

    @routes.post("/datasets/{number}/check", status_code=202)
    async def check(number: str, body: CheckBody) -> dict[str, Any]:
        """Check pictures and captions as they are now."""
        return studio.scan(studio.dataset(number), only_check=True, resolution=body.resolution).json()

    @routes.post("/datasets/{number}/plan", status_code=202)
    async def plan(number: str, body: PlanBody) -> dict[str, Any]:
        """Plan a run with the present captions."""
        return (await asyncio.to_thread(studio.plan, studio.dataset(number), body.settings)).json()

    @routes.get("/datasets/{number}/verdict")
    async def verdict(number: str) -> dict[str, Any]:
        """What the last check found."""
        content = await asyncio.to_thread(_verdict, studio, number)
        content.pop("all")
        return content

    @routes.get("/datasets/{number}/problems")
    async def problems(number: str, offset: Offset = 0, limit: Limit = 100) -> dict[str, Any]:
        """All problems of the last check, a window of them."""
        every = (await asyncio.to_thread(_verdict, studio, number))["all"]
        return {"total": len(every), "problems": every[offset : offset + limit]}

    @routes.get("/datasets/{number}/thumbnails/{row}", response_class=Response)
    async def thumbnail(
        number: str, row: int, side: Annotated[int, Query(ge=16, le=512)] = 112, quiet: bool = False
    ) -> Response:
        """A small picture; `quiet`: of one that cannot be shown nothing (204) in place of an error."""
        try:
            content = await asyncio.to_thread(_thumbnail, studio, number, row, side)
        except ApiError as error:
            if not quiet or error.code not in ("picture_not_found", "picture_unreadable"):
                raise
            return Response(status_code=204)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    return routes


def _listing(places: Places, path: str, offset: int, limit: int) -> dict[str, Any]:
    folder = places.below_root(path)
    if folder is None or not folder.is_dir():
        raise ApiError(404, "there is no such folder below the root of the studio", "folder_not_found", "path")
    names: list[tuple[bool, str]] = []  # whether it is no folder, and the name
    pictures = captions = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                suffix = PurePosixPath(entry.name).suffix.lower()
                pictures += suffix in PICTURE_SUFFIXES
                captions += suffix in CAPTION_SUFFIXES
                if entry.name.startswith(".") or (entry.is_symlink() and not _stays(places, entry.path)):
                    continue
                if Path(os.path.realpath(entry.path)) == places.studio:
                    continue  # what the studio writes is not a person's data
                if entry.is_dir() or suffix in ARCHIVE_SUFFIXES:
                    names.append((not entry.is_dir(), entry.name))
    except OSError:
        raise ApiError(404, "this folder cannot be read", "folder_not_found", "path") from None
    names = [(is_file, name) for is_file, name in names if name.isprintable()]
    names.sort(key=lambda item: (item[0], item[1].casefold()))
    shown = names[offset : offset + limit]
    prefix = f"{path}/" if path else ""
    return {
        "path": path,
        "parent": path.rpartition("/")[0] if path else None,
        "total": len(names),
        "folders": [{"name": name, "path": prefix + name} for is_file, name in shown if not is_file],
        "archives": [
            {"name": name, "path": prefix + name, "bytes": (folder / name).stat().st_size}
            for is_file, name in shown
            if is_file and (folder / name).is_file()
        ],
        "pictures": pictures,
        "captions": captions,
    }


def _stays(places: Places, path: str) -> bool:
    """Whether a link leads to a place below the root."""
    return is_inside(Path(os.path.realpath(path)), places.root)


def _created(studio: Studio, body: NewDataset) -> dict[str, Any]:
    dataset = studio.new_dataset(body.name.strip() or "pictures", body.folder)
    task = None if dataset.chosen is None else studio.scan(dataset)
    return {"dataset": studio.describe(dataset), "task": None if task is None else task.json()}


def _verdict(studio: Studio, number: str) -> dict[str, Any]:
    dataset = studio.dataset(number)
    content = read_verdict(dataset)
    if content is None:
        raise ApiError(404, "this data set was not checked yet", "not_checked")
    return {"stale": content.pop("revision") != dataset.table.revision, **content}


def _thumbnail(studio: Studio, number: str, row: int, side: int) -> bytes:
    dataset = studio.dataset(number)
    found = dataset.table.picture(row) if 0 <= row < 2**62 else None
    path = None if found is None else dataset.file(studio.places, found[1])
    if path is None:
        raise ApiError(404, "there is no such picture", "picture_not_found")
    try:
        return studio.thumbnails.get(path, side)
    except FileError as error:
        raise ApiError(422, f"the picture cannot be shown: {error}", "picture_unreadable") from None
