"""Turns: what clients send is parsed in pieces, so that the event loop stays free whatever arrives."""

from __future__ import annotations

import asyncio
from typing import Protocol

from tintype.serving import logs

TURN_SECONDS = 0.005  # of each turn of the event loop, for all connections together


class Parser(Protocol):
    """A connection."""

    def parse(self) -> bool:
        """Parse the next piece. Returns whether more is waiting."""
        ...

    def abort(self) -> None:
        """End the connection at once."""
        ...


class Turns:
    """Parses piece by piece, one connection after another, TURN_SECONDS in each turn of the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[Parser, None] = {}  # in order
        self._spent = 0.0  # seconds of this turn
        self._next_turn: asyncio.Handle | None = None

    def add(self, parser: Parser) -> None:
        """Parse what has arrived on a connection, now or in a later turn."""
        self._waiting[parser] = None
        self._parse(asyncio.get_running_loop())

    def _parse(self, loop: asyncio.AbstractEventLoop) -> None:
        start = loop.time()
        while self._waiting and self._spent + loop.time() - start < TURN_SECONDS:
            parser = next(iter(self._waiting))
            del self._waiting[parser]
            if self._parse_piece(parser):
                self._waiting[parser] = None
        self._spent += loop.time() - start
        if self._next_turn is None:
            self._next_turn = loop.call_soon(self._turn, loop)

    def _parse_piece(self, parser: Parser) -> bool:
        """Whether more is waiting. A connection with an unexpected error ends; the others go on."""
        try:
            return parser.parse()
        except Exception:
            logs.log.exception("unexpected error of a connection")
            parser.abort()
            return False

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next_turn = None
        self._spent = 0.0
        if self._waiting:
            self._parse(loop)
