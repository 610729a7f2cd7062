"""Decoding of clients' images: on a few threads of its own, where no client holds all the places."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

from tintype.serving.api.errors import ApiError

PLACES = 3  # requests whose images are decoded at once, each by one thread
PLACES_OF_CLIENT = 2  # of one key, or of one address where no key is needed
MAX_OPEN = 32  # requests that are decoded or wait for it
MAX_OPEN_OF_CLIENT = 16
RETRY_SECONDS = 5.0

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class DecodingPlaces:
    """Places in order of arrival, except that those of one client wait for each other. Used on the event loop only."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(PLACES, thread_name_prefix="decode")
        self._places = asyncio.Semaphore(PLACES)
        self._places_of: dict[str, asyncio.Semaphore] = {}  # by client, while it has requests here
        self._num: Counter[str] = Counter()  # requests by client

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """Hold a place; waits for one. Raises ApiError: 429 if too many wait."""
        if self._num[client] >= MAX_OPEN_OF_CLIENT or self._num.total() >= MAX_OPEN:
            message = "too many images wait to be decoded; try again later"
            raise ApiError(429, message, "slow_down", retry_after=RETRY_SECONDS)
        self._num[client] += 1
        places_of_client = self._places_of.setdefault(client, asyncio.Semaphore(PLACES_OF_CLIENT))
        try:
            async with places_of_client, self._places:
                yield
        finally:
            self._num[client] -= 1
            if not self._num[client]:
                del self._num[client], self._places_of[client]

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """The result of a function on a thread for decoding. Holds a place first: see `place`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
