"""One JSON object a line on stderr. Captions are left out unless asked for, and nothing can break a line."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any

MAX_TEXT = 300  # characters of any one value

log = logging.getLogger("tintype.serve")


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


def set_up(level: str = "INFO") -> None:
    """Log to stderr, uvicorn's own messages too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("tintype.serve", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "uvicorn.error" else []
        logger.setLevel(level)
        logger.propagate = name == "uvicorn.error"
    logging.getLogger("uvicorn.access").disabled = True  # the guard logs every request


def event(name: str, **fields: object) -> None:
    """Log one event with its members."""
    log.info(name, extra={"fields": fields})
