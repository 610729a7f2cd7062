"""Connections: those that do not send the head of a request in time are closed.

What comes after the head is for the guard to time. uvicorn itself waits for a head as long as the client likes, so that
a thousand of them that send nothing would take every place.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from tintype.serving.api.errors import Fault


class Connection(H11Protocol):
    """uvicorn's own, with a limit: `head_seconds` from the connection, or from the first byte of a later request."""

    head_seconds: ClassVar[float] = 30.0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(self.head_seconds, self._close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._late is None:
            self._late = self.loop.call_later(self.head_seconds, self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _close(self) -> None:
        self._late = None
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:  # half a head
            body = bytes(Fault(408, "the request was not sent in time", "request_timeout").response().body)
            head = (
                "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


def limited(seconds: float) -> type[Connection]:
    """Connections with a limit, for `uvicorn.Config(http=...)`, which takes a class."""

    class Limited(Connection):
        head_seconds = seconds

    return Limited
