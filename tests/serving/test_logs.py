"""The log: a slow or absent reader delays no request."""

from __future__ import annotations

import atexit
import json
import logging
import sys
import threading

import pytest
from tests.serving.conftest import until

from tintype.serving import logs


def test_who_does_not_read_the_log_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    read = threading.Event()
    lines: list[str] = []

    class Unread:
        def write(self, text: str) -> int:
            assert read.wait(30)
            lines.append(text)
            return len(text)

        def flush(self) -> None: ...

    loggers = [logging.getLogger(name) for name in ("tintype.serving", "uvicorn", "uvicorn.error")]
    before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
    monkeypatch.setattr(sys, "stderr", Unread())
    monkeypatch.setattr(logs, "MAX_WAITING", 50)
    monkeypatch.setattr(atexit, "register", lambda finish: finish)
    try:
        logs.set_up()
        for num in range(100):  # would never come to an end otherwise
            logs.event("a line", num=num)
        read.set()
        until(lambda: "".join(lines).count("\n") >= 50)
    finally:
        for logger, handlers, level, propagate in before:
            logger.handlers, logger.level, logger.propagate = handlers, level, propagate
    assert [json.loads(line)["num"] for line in "".join(lines).splitlines()][:50] == list(range(50))
