"""Renderings: each file is made once for all who ask, ends with its last reader and with the server, and is bounded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tintype.serving.api.errors import ApiError
from tintype.serving.api.renderings import Check, Renderings


class Work:
    """Renderings that end when they are released or their check raises."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.errors: list[int] = []
        self.released = threading.Event()

    def of(self, name: str) -> Callable[[Check], bytes]:
        def render(check: Check) -> bytes:
            self.started.append(name)
            while not self.released.wait(0.001):
                try:
                    check()
                except ApiError as error:
                    self.errors.append(error.status)
                    raise
            return name.encode() * 10

        return render


@pytest.fixture
def work() -> Work:
    return Work()


def renderings_of(
    max_open: int = 8, of_client: int = 8, max_bytes: int = 1000, is_stopping: Callable[[], bool] = lambda: False
) -> Renderings:
    return Renderings(max_open=max_open, max_open_of_client=of_client, max_bytes=max_bytes, is_stopping=is_stopping)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.001)


async def get(renderings: Renderings, work: Work, name: str, client: str = "one") -> bytes:
    return await renderings.get(name, client, work.of(name))


def test_a_file_is_made_once_for_all_who_ask(work: Work) -> None:
    async def test() -> None:
        renderings = renderings_of()
        readers = [asyncio.create_task(get(renderings, work, "a", client)) for client in ("one", "two", "three")]
        await until(lambda: work.started == ["a"])
        readers[0].cancel()  # the others still get it
        work.released.set()
        assert await readers[1] == await readers[2] == b"a" * 10
        assert await get(renderings, work, "a") == b"a" * 10
        assert work.started == ["a"]

    run(test())


def test_a_file_that_nobody_waits_for_is_given_up(work: Work) -> None:
    async def test() -> None:
        renderings = renderings_of()
        running, waiting = (asyncio.create_task(get(renderings, work, name)) for name in "ab")
        await until(lambda: work.started == ["a"])
        waiting.cancel()
        running.cancel()
        await until(lambda: work.errors == [499])
        work.released.set()
        assert await get(renderings, work, "c") == b"c" * 10
        assert work.started == ["a", "c"]
        assert await get(renderings, work, "a") == b"a" * 10  # made anew

    run(test())


def test_files_are_made_one_at_a_time(work: Work) -> None:
    async def test() -> None:
        renderings = renderings_of()
        readers = [asyncio.create_task(get(renderings, work, name)) for name in "abc"]
        await until(lambda: bool(work.started))
        readers[0].cancel()
        await until(lambda: work.started == ["a", "b"])
        assert work.errors == [499]  # the first had ended before the second began
        work.released.set()
        await asyncio.gather(*readers[1:])

    run(test())


def test_too_many_files_are_refused(work: Work) -> None:
    async def test() -> None:
        renderings = renderings_of(max_open=3, of_client=2)
        readers = [asyncio.create_task(get(renderings, work, name)) for name in "ab"]
        await until(lambda: work.started == ["a"])
        with pytest.raises(ApiError) as of_client:
            await get(renderings, work, "c")
        readers.append(asyncio.create_task(get(renderings, work, "c", "two")))
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as of_all:
            await get(renderings, work, "d", "three")
        for error in (of_client.value, of_all.value):
            assert (error.status, error.headers["Retry-After"]) == (429, "5")
        readers.append(asyncio.create_task(get(renderings, work, "a", "three")))  # joins one that is open
        work.released.set()
        assert await asyncio.gather(*readers) == [name * 10 for name in (b"a", b"b", b"c", b"a")]

    run(test())


def test_a_server_that_stops_makes_no_files(work: Work) -> None:
    async def test() -> None:
        stopping = threading.Event()
        renderings = renderings_of(is_stopping=stopping.is_set)
        readers = [asyncio.create_task(get(renderings, work, name)) for name in "ab"]
        await until(lambda: work.started == ["a"])
        stopping.set()
        for error in await asyncio.gather(*readers, return_exceptions=True):
            assert isinstance(error, ApiError)
            assert error.status == 503
        assert work.started == ["a"]

    run(test())


def test_the_cache_is_bounded_in_bytes_and_keeps_what_was_read_last(work: Work) -> None:
    async def test() -> None:
        work.released.set()
        renderings = renderings_of(max_bytes=20)
        for name in ("a", "b", "a", "c", "a", "b"):  # c replaces b, b replaces c
            await get(renderings, work, name)
        assert work.started == ["a", "b", "c", "b"]

    run(test())


def test_an_error_is_the_readers_and_the_next_one_may_try_again(work: Work) -> None:
    async def test() -> None:
        def fail(check: Check) -> bytes:
            raise MemoryError

        renderings = renderings_of()
        with pytest.raises(MemoryError):
            await renderings.get("a", "one", fail)
        work.released.set()
        assert await get(renderings, work, "a") == b"a" * 10

    run(test())
