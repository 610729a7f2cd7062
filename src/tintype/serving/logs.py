"""One JSON object a line on stderr. Captions are left out unless asked for, and nothing can break a line."""

from __future__ import annotations

import atexit
import datetime
import json
import logging
import sys
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from typing import Any

MAX_TEXT = 300  # characters of any one value
MAX_WAITING = 10_000  # lines that wait to be written; when nobody reads them, later ones are left out
FLUSH_SECONDS = 2.0  # at the end

log = logging.getLogger("tintype.serving")


class JsonLines(logging.Formatter):
    """A record as one line of JSON; what `extra={"fields": ...}` holds becomes members."""

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


class _Waiting(QueueHandler):
    """Lines for a thread of their own to write: whoever reads them slowly, or not at all, holds up nobody."""

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except Full:
            pass


class _Writer(QueueListener):
    def finish(self) -> None:
        """Write what still waits, if somebody reads it."""
        try:
            self.enqueue_sentinel()
        except Full:
            return
        if self._thread is not None:
            self._thread.join(FLUSH_SECONDS)


def set_up(level: str = "INFO") -> None:
    """Log to stderr, uvicorn's own messages too."""
    lines: Queue[Any] = Queue(MAX_WAITING)
    writer = _Writer(lines, logging.StreamHandler(sys.stderr))
    writer.start()
    atexit.register(writer.finish)
    handler = _Waiting(lines)
    handler.setFormatter(JsonLines())
    for name in ("tintype.serving", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "uvicorn.error" else []
        logger.setLevel(level)
        logger.propagate = name == "uvicorn.error"
    logging.getLogger("uvicorn.access").disabled = True  # the guard logs every request


def event(name: str, **fields: object) -> None:
    """Log one event with its members."""
    log.info(name, extra={"fields": fields})
