"""A thread pool: a parallel, ordered map with bounded memory; and generators run to their end."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

P = TypeVar("P")
T = TypeVar("T")
R = TypeVar("R")
BATCH = 16  # items for one call of the function
_AHEAD = 2  # calls per thread ahead of the consumer


def num_threads() -> int:
    """The number of cores that this process may use, at most 8: reading files gains nothing beyond that."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, available)


def map_batched(
    function: Callable[[Sequence[T]], Sequence[R]], items: Iterable[T], threads: int | None = None
) -> Iterator[R]:
    """Yield a result for each item, in order; threads compute them a little ahead of the consumer.

    function: from a batch of items to their results.
    """
    rest = iter(items)
    for results in map_threads(function, iter(lambda: list(islice(rest, BATCH)), []), threads):
        yield from results


def map_threads(function: Callable[[P], R], parts: Iterable[P], threads: int | None = None) -> Iterator[R]:
    """Yield the result of `function` for each part, in order; threads compute them a little ahead of the consumer."""
    threads = threads or num_threads()
    if threads == 1:
        yield from map(function, parts)
        return
    waiting: deque[Future[R]] = deque()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="tintype-read")
    try:
        for part in parts:
            waiting.append(executor.submit(function, part))
            if len(waiting) >= _AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def finished(progress: Generator[object, None, R]) -> R:
    """Run a generator to its end. Returns its result."""
    while True:
        try:
            next(progress)
        except StopIteration as end:
            result: R = end.value
            return result
