"""A stand-in for the studio's server that answers at once for any number of pictures: the time left is the page's."""

from __future__ import annotations

import asyncio
import io
from functools import lru_cache
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from PIL import Image

from tintype.serving.catalog import Catalog

COLORS = ("red", "green", "blue", "yellow", "orange", "purple", "gray", "brown")
SHAPES = ("circle", "square", "star", "triangle", "ring", "cross")


class StandIn:
    """An extension of the server with one data set, whose pictures and captions are made up."""

    def __init__(self, num: int) -> None:
        self.captions = [
            f"a {COLORS[row % len(COLORS)]} {SHAPES[row // len(COLORS) % len(SHAPES)]}, drawing {row}"
            for row in range(num)
        ]
        for row in range(0, num, 100):
            self.captions[row] = ""
        self.down = False  # whether captions are refused as by a server that is not there
        self.undo: list[dict[int, str]] = []

    def link(self, address: str) -> str:
        return address

    async def background(self) -> None:
        await asyncio.Event().wait()

    def _dataset(self) -> dict[str, Any]:
        num, empty = len(self.captions), self.captions.count("")
        return {
            "id": "drawings",
            "name": "Drawings",
            "folder": "drawings",
            "gone": False,
            "scanned": True,
            "pictures": num,
            "captioned": num - empty,
            "empty": empty,
            "left_out": 0,
            "stale": False,
            "judged": False,
            "checked": False,
            "edits": len(self.undo),
            "task": None,
            "can_redo": None,
            "can_undo": "1 caption" if self.undo else None,
        }

    def _picture(self, row: int) -> dict[str, Any]:
        return {
            "row": row,
            "path": f"{row // 1000:02}/{row:05}.png",
            "caption": self.captions[row],
            "original": "",
            "edited": False,
            "left_out": False,
            "unread": None,
            "cut": None,
        }

    def router(self, catalog: Catalog) -> APIRouter:
        routes = APIRouter(prefix="/api/studio")

        @routes.get("")
        async def overview() -> dict[str, Any]:
            limits = {
                "chunk_bytes": 2**22,
                "file_bytes": 2**29,
                "archive_bytes": 2**34,
                "files": 200000,
                "suffixes": [],
            }
            return {
                "root": "home",
                "studio": "studio",
                "disk_free": 10**11,
                "busy": False,
                "limits": limits,
                "datasets": [self._dataset()],
                "runs": [],
                "tasks": [],
                "trash": [],
            }

        @routes.get("/datasets/drawings")
        async def dataset() -> dict[str, Any]:
            return self._dataset()

        @routes.get("/datasets/drawings/captions/rows")
        async def rows(q: str = "", filter: str = "all") -> dict[str, Any]:
            words = q.lower()
            found = [
                row
                for row, caption in enumerate(self.captions)
                if words in caption.lower() and (filter != "empty" or not caption)
            ]
            counts = {"all": len(self.captions), "empty": self.captions.count(""), "repeated": 0, "edited": 0}
            return {"rows": found, "counts": {**counts, "left_out": 0, "unread": None, "cut": None}}

        @routes.get("/datasets/drawings/captions")
        async def captions(rows: str) -> dict[str, Any]:
            return {"pictures": [self._picture(int(row)) for row in rows.split(",")]}

        @routes.patch("/datasets/drawings/captions/{row}")
        async def caption(row: int, body: dict[str, Any]) -> Any:
            if self.down:
                return JSONResponse({"error": {"message": "the disk is full", "code": "disk_full"}}, 507)
            if body.get("before", self.captions[row]) != self.captions[row]:
                content = {"error": {"message": "changed", "code": "changed_meanwhile"}, "caption": self.captions[row]}
                return JSONResponse(content, 409)
            self.undo.append({row: self.captions[row]})
            self.captions[row] = body["caption"]
            return {**self._picture(row), "edit": {"id": 1, "label": "1 caption", "changed": 1}}

        @routes.post("/datasets/drawings/undo")
        async def undo() -> dict[str, Any]:
            for row, caption in self.undo.pop().items():
                self.captions[row] = caption
            return {"edit": {"id": 1, "label": "1 caption", "changed": 1}, "dataset": self._dataset()}

        @routes.get("/datasets/drawings/thumbnails/{row}")
        async def thumbnail(row: int) -> Response:
            return Response(_picture(row % 64), media_type="image/jpeg", headers={"Cache-Control": "max-age=600"})

        return routes


@lru_cache
def _picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (192, 144), (number * 4, 255 - number * 3, 128)).save(buffer, "JPEG")
    return buffer.getvalue()
