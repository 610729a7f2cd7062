"""The log: one JSON object per line on stderr, without captions unless --log-prompts; no value can break a line."""

from __future__ import annotations

import atexit
import datetime
import json
import logging
import sys
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from typing import Any

MAX_TEXT = 300  # characters of a value
MAX_WAITING = 10_000  # unwritten lines; when nobody reads stderr, later lines are dropped
FLUSH_SECONDS = 2.0  # at exit

log = logging.getLogger("tintype.serving")


class JsonLines(logging.Formatter):
    """A record as one line of JSON; the entries of `extra={"fields": ...}` become its members."""

    def format(self, record: logging.LogRecord) -> str:
        members: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage()[:MAX_TEXT],
        }
        for name, value in getattr(record, "fields", {}).items():
            members[name] = value[:MAX_TEXT] if isinstance(value, str) else value
        if record.exc_info:
            members["traceback"] = self.formatException(record.exc_info)
        return json.dumps(members, default=str)


class _Handler(QueueHandler):
    """Hands lines to a thread that writes them, so that a slow or absent reader of stderr blocks no request."""

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except Full:
            pass


class _Writer(QueueListener):
    def finish(self) -> None:
        """Write the remaining lines, if stderr is read."""
        try:
            self.enqueue_sentinel()
        except Full:
            return
        if self._thread is not None:
            self._thread.join(FLUSH_SECONDS)


def set_up(level: str = "INFO") -> None:
    """Log to stderr, with uvicorn's messages."""
    lines: Queue[Any] = Queue(MAX_WAITING)
    writer = _Writer(lines, logging.StreamHandler(sys.stderr))
    writer.start()
    atexit.register(writer.finish)
    handler = _Handler(lines)
    handler.setFormatter(JsonLines())
    for name in ("tintype.serving", "uvicorn", "uvicorn.error", "asyncio"):  # asyncio: errors of tasks and callbacks
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "uvicorn.error" else []
        logger.setLevel(level)
        logger.propagate = name == "uvicorn.error"
    logging.getLogger("uvicorn.access").disabled = True  # the guard logs every request


def event(name: str, **fields: object) -> None:
    """Log an event with its members."""
    log.info(name, extra={"fields": fields})
