"""Disconnects: what a request waits for ends when its client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request as HttpRequest

from tintype.serving.api.errors import ApiError

T = TypeVar("T")


async def until_done(work: Coroutine[Any, Any, T], request: HttpRequest) -> T:
    """The result of `work`; cancels it and raises ApiError if the client disconnects before."""
    working = asyncio.create_task(work)
    disconnected = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((working, disconnected), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ApiError(499, "the client has disconnected", "client_closed_request")
    finally:
        working.cancel()
        disconnected.cancel()


async def _disconnected(request: HttpRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
