"""The transport of a client: drops slow readers, and lets a response arrive although the request was not read whole."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11

LINGER_SECONDS = 2.0  # after the response to an unread request, for the client to read it
MAX_DROPPED = 32 * 2**20  # bytes that arrive in this time and are thrown away
MAX_DROPPED_ENDLESS = 2 * 2**20  # the same, if the request does not say how long it is
SEND_BUFFER = 128 * 1024  # bytes of a response that the system holds; it asks for more when a third of it is taken
MIN_TAKEN = 8 * 1024  # bytes that a client must take in `write_seconds`, or everything that waits for it


class ClientTransport(asyncio.Transport):
    """asyncio's transport with two differences.

    write: a client that takes less than MIN_TAKEN of its response in `write_seconds` is disconnected, because its
    buffers and its place would be kept for good.

    close: while the rest of a request is still arriving, closing at once would reset the connection, and the client
    would lose its response (RFC 9112, 9.6). This shuts down the sending side, then drops what arrives for
    LINGER_SECONDS, at most MAX_DROPPED bytes.
    """

    def __init__(
        self, transport: asyncio.Transport, conn: h11.Connection, loop: asyncio.AbstractEventLoop, write_seconds: float
    ) -> None:
        super().__init__()
        self._transport = transport
        self._conn = conn
        self._loop = loop
        self._write_seconds = write_seconds
        self._write_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._written = 0  # bytes, from the beginning
        self._taken = 0  # of these, when the timer started
        self._to_take = 0  # until the timer ends
        self._to_drop = MAX_DROPPED
        connected: socket.socket | None = transport.get_extra_info("socket")
        if connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_closing():
            return
        self._written += len(data)
        self._transport.write(data)
        if self._write_timer is None and self._transport.get_write_buffer_size():
            self._start_write_timer()

    def close(self) -> None:
        if self._conn.their_state in (h11.SEND_BODY, h11.ERROR):
            self.linger()
        else:
            self._transport.close()

    def linger(self) -> None:
        """Close once the client has had time to read. A second call closes at once."""
        if self._linger_timer is not None or self._transport.is_closing() or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._linger_timer = self._loop.call_later(LINGER_SECONDS, self._transport.close)
        self._transport.write_eof()
        self._transport.resume_reading()

    def drop(self, num: int, *, endless: bool) -> None:
        """Account for `num` bytes that arrived after the response. endless: the request has no known length."""
        self._to_drop = min(self._to_drop, MAX_DROPPED_ENDLESS) if endless else self._to_drop
        self._to_drop -= num
        if self._to_drop < 0:
            self._transport.close()

    def stop_timers(self) -> None:
        """The connection is lost."""
        for timer in (self._write_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()

    def is_closing(self) -> bool:
        return self._linger_timer is not None or self._transport.is_closing()

    def abort(self) -> None:
        self._transport.abort()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def _start_write_timer(self) -> None:
        waiting = self._transport.get_write_buffer_size()
        self._taken = self._written - waiting
        self._to_take = min(waiting, MIN_TAKEN)
        self._write_timer = self._loop.call_later(self._write_seconds, self._check_reader)

    def _check_reader(self) -> None:
        waiting = self._transport.get_write_buffer_size()
        self._write_timer = None
        if waiting and self._written - waiting - self._taken < self._to_take:
            self._transport.abort()
        elif waiting:
            self._start_write_timer()
