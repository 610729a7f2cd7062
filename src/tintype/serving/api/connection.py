"""Connections with a time limit for the head of a request; the guard limits the time for the body.

uvicorn itself waits for a head without limit, so that a thousand clients that send nothing would take every connection.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from tintype.serving.api.errors import ApiError


class Connection(H11Protocol):
    """uvicorn's connection, closed `head_seconds` after it opens, or after the first byte of a later request."""

    head_seconds: ClassVar[float] = 30.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.head_seconds, self._time_out)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._time_out)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        self._timer = None
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:  # part of a head has arrived
            body = bytes(ApiError(408, "the request was not received in time", "request_timeout").response().body)
            head = (
                "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


def connection_class(seconds: float) -> type[Connection]:
    """A connection class with this limit, for `uvicorn.Config(http=...)`."""

    class LimitedConnection(Connection):
        head_seconds = seconds

    return LimitedConnection
