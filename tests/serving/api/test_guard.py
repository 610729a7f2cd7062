"""The guard: large bodies and responses pass through it whole, in chunks."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


class Panic(BaseException):
    """Like the panic of a library in Rust."""


async def _call(app: ASGIApp, sent: list[Message]) -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"localhost")], "client": ("a", 1)}
    await RequestGuard(app, Settings(), Metrics())(scope, receive, send)


def test_a_panic_of_a_library_is_an_error_in_the_form_of_the_api() -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise Panic("/secret/place")

    sent: list[Message] = []
    asyncio.run(_call(fail, sent))
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["error"]["code"] == "internal_error"
    assert b"secret" not in sent[1]["body"]


def test_a_request_that_outlasts_the_server_is_told_so() -> None:
    async def last(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async def run() -> list[Message]:
        sent: list[Message] = []
        request = asyncio.create_task(_call(last, sent))
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        assert request.cancelled()
        return sent

    start, body = asyncio.run(run())
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"10"
    assert json.loads(body["body"])["error"]["code"] == "server_is_overloaded"
