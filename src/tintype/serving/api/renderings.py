"""Renderings: files made from jobs on a thread of their own, once for all who ask, while somebody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread

from tintype.serving.api.byte_cache import ByteCache
from tintype.serving.api.errors import ApiError

RETRY_SECONDS = 5.0

Check = Callable[[], None]  # raises ApiError once the rendering is in vain
Render = Callable[[Check], bytes]  # calls the check every tenth of a second or so


class Renderings:
    """Files by name: those in the making, and a cache of finished ones. Used on the event loop only.

    Args:
        max_open: renderings that run or wait for their turn; they run one at a time.
        max_open_of_client: the same, of those that one client began.
        max_bytes: of the cache; the files that were read last stay.
        is_stopping: whether the server stops, and renders no more. Any thread may call it.
    """

    def __init__(
        self, *, max_open: int, max_open_of_client: int, max_bytes: int, is_stopping: Callable[[], bool]
    ) -> None:
        self._max_open = max_open
        self._max_open_of_client = max_open_of_client
        self._is_stopping = is_stopping
        self._turn = asyncio.Lock()
        self._open: dict[str, _Rendering] = {}
        self._finished = ByteCache(max_bytes)

    async def get(self, name: str, client: str, render: Render) -> bytes:
        """The file `name`, rendered unless it is in the cache; when this is cancelled, others may still wait for it.

        Raises ApiError: 429 if too many files wait to be rendered, 503 once the server stops.
        """
        content = self._finished.get(name)
        if content is not None:
            return content
        rendering = self._open.get(name) or self._start(name, client, render)
        rendering.num_readers += 1
        try:
            return await asyncio.shield(rendering.task)
        finally:
            rendering.num_readers -= 1
            if not rendering.num_readers:
                self._close(name, rendering)

    def _start(self, name: str, client: str, render: Render) -> _Rendering:
        num_of_client = sum(rendering.client == client for rendering in self._open.values())
        if len(self._open) >= self._max_open or num_of_client >= self._max_open_of_client:
            message = "too many files wait to be made; try again later"
            raise ApiError(429, message, "slow_down", retry_after=RETRY_SECONDS)
        rendering = _Rendering(client, self._is_stopping)
        rendering.task = asyncio.create_task(self._render(name, rendering, render))
        self._open[name] = rendering
        return rendering

    def _close(self, name: str, rendering: _Rendering) -> None:
        """Forget a rendering that nobody waits for; one that runs ends at its next check."""
        if self._open.get(name) is rendering:
            del self._open[name]
        if not rendering.has_turn:
            rendering.task.cancel()

    async def _render(self, name: str, rendering: _Rendering, render: Render) -> bytes:
        async with self._turn:
            rendering.has_turn = True
            rendering.check()
            content = await _on_thread(render, rendering.check)
        self._finished.add(name, content)
        return content


class _Rendering:
    task: asyncio.Task[bytes]

    def __init__(self, client: str, is_stopping: Callable[[], bool]) -> None:
        self.client = client
        self.num_readers = 0
        self.has_turn = False
        self._is_stopping = is_stopping

    def check(self) -> None:
        if self._is_stopping():
            raise ApiError(503, "the server is shutting down", "server_is_overloaded", retry_after=10)
        if not self.num_readers:
            raise ApiError(499, "the client has disconnected", "client_closed_request")


async def _on_thread(render: Render, check: Check) -> bytes:
    """The file, from a daemon thread: the process can end meanwhile, which a thread of an executor would prevent."""
    future: Future[bytes] = Future()
    future.set_running_or_notify_cancel()  # from here on nobody but the thread ends it

    def run() -> None:
        try:
            future.set_result(render(check))
        except BaseException as error:  # a panic of a library, too, which is no Exception
            future.set_exception(error)

    Thread(target=run, name="render", daemon=True).start()
    return await asyncio.wrap_future(future)
