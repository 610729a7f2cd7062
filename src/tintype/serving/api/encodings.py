"""Encodings: the steps and pictures of jobs as files, each encoded on a thread, once for all who read it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from tintype.pipeline.image_file import encode
from tintype.pipeline.sizes import enlarged
from tintype.serving.api.byte_cache import ByteCache
from tintype.serving.api.images import guess_image, strip_png
from tintype.serving.engine.job import GenerateTask, Job
from tintype.view.contact_sheet import Frame

MAX_KEPT_BYTES = 64 * 2**20  # of encoded files
Key = tuple[object, ...]  # the job's id and what of it


class Encodings:
    """Files that are being encoded, and the latest that were. Used on the event loop only.

    A reader that leaves does not end an encoding, for which another may wait.
    """

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._open: dict[Key, asyncio.Task[bytes]] = {}
        self._finished = ByteCache(max_bytes)

    async def step(self, job: Job, index: int) -> bytes | None:
        """A step, as `strip_png` makes it; None if its frame is not kept.

        The guess of the last step changes once, when the job finishes: `Job.is_final`.
        """
        key = (job.id, "step", index, job.is_final(index))  # asked before the frame is read
        frame = job.frames.get(index)
        return None if frame is None else await self._get(key, partial(strip_png, frame))

    async def picture(self, job: Job, row: int, suffix: str = ".png", quality: int = 100) -> bytes:
        """A finished picture with its receipt. Suffix and quality: see `encode`."""
        return await self._get((job.id, "picture", row, suffix, quality), partial(_picture, job, row, suffix, quality))

    async def guess(self, job: Job, index: int, frame: Frame, row: int, suffix: str, quality: int) -> bytes:
        """The guess at a picture in `frame`, that of a step before the last, with the receipt of the picture."""
        key = (job.id, "guess", index, row, suffix, quality)
        return await self._get(key, partial(_guess, job, frame, row, suffix, quality))

    async def preview(self, job: Job, row: int) -> bytes | None:
        """The newest guess at a picture, a PNG of the finished size without a receipt; None before the first step."""
        frames = job.frames  # as it is now: the engine replaces it
        newest = max(frames, default=-1)
        if newest < 0:
            return None
        return await self._get((job.id, "preview", newest, row), partial(_preview, job, frames[newest], row))

    async def _get(self, key: Key, encode_file: Callable[[], bytes]) -> bytes:
        content = self._finished.get(key)
        if content is not None:
            return content
        if key not in self._open:
            self._open[key] = asyncio.create_task(self._encode(key, encode_file))
        return await asyncio.shield(self._open[key])

    async def _encode(self, key: Key, encode_file: Callable[[], bytes]) -> bytes:
        try:
            content = await asyncio.to_thread(encode_file)
        finally:
            del self._open[key]
        self._finished.add(key, content)
        return content


def _picture(job: Job, row: int, suffix: str, quality: int) -> bytes:
    assert isinstance(job.task, GenerateTask)
    assert job.result is not None
    pipeline, request = job.task.pipeline, job.task.request
    picture = pipeline.pictures(job.result[row : row + 1], request.enlarge)[0]
    return encode(picture, pipeline.receipts(request)[row], suffix, quality)


def _guess(job: Job, frame: Frame, row: int, suffix: str, quality: int) -> bytes:
    assert isinstance(job.task, GenerateTask)
    receipt = job.task.pipeline.receipts(job.task.request)[row]
    return encode(guess_image(frame, row), receipt, suffix, quality)


def _preview(job: Job, frame: Frame, row: int) -> bytes:
    assert isinstance(job.task, GenerateTask)
    return encode(enlarged(guess_image(frame, row), job.task.request.enlarge), None, ".png")
