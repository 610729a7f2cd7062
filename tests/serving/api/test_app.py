"""The application: its background tasks."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tintype.serving.api import app


class Panic(BaseException):
    """Like the panic of a library in Rust."""


def test_a_background_task_restarts_after_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "RESTART_SECONDS", 0.0)

    async def run() -> int:
        num, lasting = 0, asyncio.Event()

        async def task() -> None:
            nonlocal num
            num += 1
            if num < 3:
                raise ZeroDivisionError if num == 1 else Panic
            lasting.set()
            await asyncio.sleep(60)

        supervised = asyncio.create_task(app._supervise("test", task))
        await asyncio.wait_for(lasting.wait(), 10)
        supervised.cancel()
        with pytest.raises(asyncio.CancelledError):
            await supervised
        return num

    assert asyncio.run(run()) == 3
    assert [line.message for line in caplog.records] == ["background task failed"] * 2


def test_no_request_is_counted_as_running_once_it_has_its_answer(http: httpx.Client) -> None:
    assert http.post("/v1/images/generations", json={"prompt": "a", "steps": 2}).status_code == 200
    lines = http.get("/metrics").text.splitlines()
    assert "tintype_num_requests_running 0.0" in lines
    assert "tintype_num_requests_waiting 0.0" in lines
