"""The guard: large bodies and responses pass through it whole, in chunks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import httpx
from starlette.types import Message, Receive, Scope, Send

from tintype.serving.api.guard import CHUNK, RequestGuard
from tintype.serving.engine.metrics import Metrics
from tintype.serving.settings import Settings


def test_bodies_and_answers_of_megabytes_come_whole_in_pieces() -> None:
    sent: list[int] = []
    content = os.urandom(3 * CHUNK + 17)

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        async def count(message: Message) -> None:
            sent.append(len(message.get("body", b"")))
            await send(message)

        await RequestGuard(echo, Settings(), Metrics())(scope, receive, count)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(counted), base_url="http://localhost") as http:
            pieces = (content[start : start + 1000] for start in range(0, len(content), 1000))

            async def stream() -> AsyncIterator[bytes]:
                for piece in pieces:
                    yield piece

            return await http.post("/api/look", content=stream(), headers={"Content-Type": "application/json"})

    assert asyncio.run(ask()).content == content
    assert max(sent) == CHUNK
    assert sum(sent) == len(content)
