"""Do the same thing to many files at once, in order, with bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 8  # results per thread that may wait to be taken


def num_threads() -> int:
    """Count the cores that this process may use, at most 8: reading files gains nothing beyond that."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, available)


def in_order(function: Callable[[T], R], items: Iterable[T], threads: int | None = None) -> Iterator[R]:
    """Yield function(item) for each item, in order, computed by threads a little ahead of the consumer."""
    threads = threads or num_threads()
    if threads == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="tintype-read")
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) >= _AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
