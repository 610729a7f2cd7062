"""Routes of uploads: small files whole, large ones in chunks that go on where they were cut."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from tintype.serving.api.errors import ApiError
from tintype.studio.dataset import DataSet
from tintype.studio.routes.bodies import FinishUpload, NewUpload
from tintype.studio.studio import Studio
from tintype.studio.uploads import Upload, WrongOffset

Sha256 = Annotated[str, Query(min_length=64, max_length=64)]


def router(studio: Studio) -> APIRouter:
    """The routes under /api/studio/datasets/{number}/files and /uploads, and /api/studio/uploads."""
    routes = APIRouter(prefix="/studio")

    def find(upload_number: str) -> tuple[DataSet, Upload]:
        for dataset in studio.datasets():
            upload = studio.uploads.get(dataset, upload_number) if dataset.chosen is None else None
            if upload is not None:
                return dataset, upload
        raise ApiError(404, "unknown upload; begin it again", "upload_not_found")

    @routes.put("/datasets/{number}/files")
    async def whole(
        number: str, request: HttpRequest, path: Annotated[str, Query(max_length=4096)], sha256: Sha256
    ) -> dict[str, Any]:
        """A small file in one request."""
        dataset, content = studio.dataset(number), await request.body()
        return await asyncio.to_thread(studio.uploads.put, dataset, path, sha256, content)

    @routes.post("/datasets/{number}/uploads")
    async def begin(number: str, body: NewUpload) -> dict[str, Any]:
        """Begin a large file, or find how much of it is there."""
        return await asyncio.to_thread(studio.uploads.begin, studio.dataset(number), body.path, body.size)

    @routes.get("/uploads/{upload_number}")
    async def state(upload_number: str) -> dict[str, Any]:
        """How much of a file is there."""
        dataset, upload = await asyncio.to_thread(find, upload_number)
        offset = await asyncio.to_thread(studio.uploads.offset, dataset, upload)
        return upload.json(offset, studio.uploads.limits.chunk)

    @routes.put("/uploads/{upload_number}", response_class=JSONResponse)
    async def chunk(
        upload_number: str, request: HttpRequest, offset: Annotated[int, Query(ge=0, le=2**50)], sha256: Sha256
    ) -> Response:
        """The next chunk of a file."""
        dataset, upload = await asyncio.to_thread(find, upload_number)
        content = await request.body()
        try:
            length = await asyncio.to_thread(studio.uploads.append, dataset, upload, offset, sha256, content)
        except WrongOffset as error:
            return _wrong_offset(error, "wrong_offset")
        return JSONResponse({"offset": length, "size": upload.size})

    @routes.post("/uploads/{upload_number}/finish", response_class=JSONResponse)
    async def finish(upload_number: str, body: FinishUpload) -> Response:
        """Put a whole file into its place."""
        dataset, upload = await asyncio.to_thread(find, upload_number)
        try:
            return JSONResponse(await asyncio.to_thread(studio.uploads.finish, dataset, upload, body.sha256))
        except WrongOffset as error:
            return _wrong_offset(error, "incomplete")

    @routes.delete("/uploads/{upload_number}", status_code=204)
    async def delete(upload_number: str) -> None:
        """Forget an unfinished file."""
        await asyncio.to_thread(studio.uploads.delete, *await asyncio.to_thread(find, upload_number))

    return routes


def _wrong_offset(error: WrongOffset, code: str) -> Response:
    """The error with the offset at which the file goes on."""
    content = ApiError(409, str(error), code, "offset").body()
    return JSONResponse({**content, "offset": error.offset}, 409)
