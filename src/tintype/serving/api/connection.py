"""Connections with a limit for every phase of a request, and errors in the form of the API for what is not HTTP.

uvicorn itself waits without limit for a head, reads the rest of a request that is already answered, parses all that
has arrived in one go, and keeps what a client does not read. The guard limits size and time of a body.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import ClassVar

import h11
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

from tintype.serving.api.errors import ApiError, too_many_connections, too_many_of_client
from tintype.serving.api.shares import Share, Shares
from tintype.serving.api.transport import ClientTransport
from tintype.serving.api.turns import Turns
from tintype.serving.settings import Settings

PIECE = 2 * 1024  # bytes that are parsed at once: at most some 300 chunks, 500 lines of a head
BODY_PIECE = 16 * 1024  # the same, of a body whose length is known: no parsing
MAX_FRAMING = 64 * 1024  # bytes of a body in chunks that are no content, beyond a quarter of the content
SPARE_CONNECTIONS = 64  # beyond the limit, to answer /health and errors
SPARE_OF_CLIENT = 16  # the same, beyond the limit of one client


class _Flow(FlowControl):
    """Reads nothing while bytes wait to be parsed."""

    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()

    def hold(self) -> None:
        self.held = True
        self.pause_reading()


class Connection(H11Protocol):
    """uvicorn's connection within limits.

    The head of a request must arrive within `head_seconds` of opening the connection, or of its own first byte.
    """

    settings: ClassVar[Settings] = Settings()
    turns: ClassVar[Turns] = Turns()
    shares: ClassVar[Shares] = Shares(settings.max_connections_per_client)
    flow: _Flow
    transport: ClientTransport
    _share: Share
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(ClientTransport(transport, self.conn, self.loop, self.settings.write_seconds))
        self.flow = _Flow(self.transport)
        self._pending = bytearray()  # received and not yet parsed
        self._framing = 0  # bytes of this body that are no content, less a quarter of the content
        self._head_timer = self.loop.call_later(self.settings.head_seconds, self._time_out)
        self._share = self.shares.open(self.client[0] if self.client else "")
        excess = len(self.connections) - self.settings.max_connections
        if excess > SPARE_CONNECTIONS:
            self._turn_away(too_many_connections(), may_linger=excess <= 2 * SPARE_CONNECTIONS)
        elif self._share.excess > SPARE_OF_CLIENT:
            may_linger = self._share.excess <= 2 * SPARE_OF_CLIENT
            self._turn_away(too_many_of_client(self._share.limit), may_linger=may_linger)
        else:  # the guard refuses, if it must
            self.app_state = {**self.app_state, "overloaded": excess > 0, "share": self._share}

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return self.transport.drop(len(data), endless=not self._has_length())
        self._pending += data
        self.turns.add(self)

    def parse(self) -> bool:
        """Parse the next piece. Returns whether more can be parsed."""
        if self.transport.is_closing():
            self._pending.clear()
        elif self._can_parse():
            size = BODY_PIECE if self.conn.their_state is h11.SEND_BODY and self._has_length() else PIECE
            piece = bytes(self._pending[:size])
            del self._pending[:size]
            self._parse_piece(piece)
            self._set_head_timer()
        if self._pending and not self.transport.is_closing():
            self.flow.hold()
            return self._can_parse()
        if self.flow.held:
            self.flow.held = False
            if self.cycle is None or len(self.cycle.body) <= HIGH_WATER_LIMIT:
                self.flow.resume_reading()
        return False

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def _parse_piece(self, piece: bytes) -> None:
        cycle, before = self.cycle, 0 if self.cycle is None else len(self.cycle.body)
        super().data_received(piece)
        if self.cycle is not cycle:
            self._framing = 0
        elif cycle is not None and self.conn.their_state is h11.SEND_BODY:
            content = len(cycle.body) - before
            self._framing += len(piece) - content - content // 4
            if self._framing > MAX_FRAMING:
                message = "the body came in too many small chunks; send at least 64 bytes in each"
                self._refuse(ApiError(400, message, "chunks_too_small"))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete and not self.transport.is_closing():
            self.transport.close()  # the rest of a request that is answered is not read
        elif self._pending:
            self.turns.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self.transport.stop_timers()
        self._share.close()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        message = "this is not a valid HTTP/1.1 request; send one in plain HTTP, with a head of at most 16 KiB"
        self._refuse(ApiError(400, message, "invalid_http"))

    def _can_parse(self) -> bool:
        """Not while an earlier request of the connection is being answered."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def _has_length(self) -> bool:
        """The request tells the length of its body."""
        names = [name for name, _ in self.headers or ()]
        return b"content-length" in names and b"transfer-encoding" not in names

    def _refuse(self, error: ApiError) -> None:
        """Answer in place of the application, and close."""
        self._stop_head_timer()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                return self.transport.abort()
        self.transport.write(_raw(error))
        self.transport.linger()

    def _turn_away(self, error: ApiError, *, may_linger: bool) -> None:
        """Answer before anything is asked, and close; with time to read the answer, unless there are far too many."""
        self.transport.write(_raw(error))
        if may_linger:
            self.transport.linger()
        else:
            self.transport.close()

    def _set_head_timer(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_head_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self.settings.head_seconds, self._time_out)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _time_out(self) -> None:
        self._head_timer = None
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:  # part of a head has arrived
            self._refuse(ApiError(408, "the request was not received in time", "request_timeout"))
        else:
            self.transport.close()


def connection_class(settings: Settings) -> type[Connection]:
    """A connection class with the limits of these settings, for `uvicorn.Config(http=...)`."""

    class LimitedConnection(Connection):
        pass

    LimitedConnection.settings = settings
    LimitedConnection.turns = Turns()
    LimitedConnection.shares = Shares(settings.max_connections_per_client)
    return LimitedConnection


def _raw(error: ApiError) -> bytes:
    """An error as an HTTP response, for clients whose request does not reach the application."""
    response = error.response()
    response.headers["connection"] = "close"
    response.headers["x-request-id"] = uuid.uuid4().hex
    response.headers["x-content-type-options"] = "nosniff"
    fields = [b"HTTP/1.1 %d %s" % (error.status, _PHRASES[error.status])]
    fields += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*fields, b"", bytes(response.body)])


_PHRASES = {
    400: b"Bad Request",
    408: b"Request Timeout",
    429: b"Too Many Requests",
    503: b"Service Unavailable",
}
