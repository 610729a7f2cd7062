"""Do the same thing to many files at once, in order, with bounded memory; run what tells its progress to its end."""

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
TOGETHER = 16  # items that one call is given
_AHEAD = 2  # calls per thread whose results may wait to be taken


def num_threads() -> int:
    """Count the cores that this process may use, at most 8: reading files gains nothing beyond that."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, available)


def in_order(
    function: Callable[[Sequence[T]], Sequence[R]], items: Iterable[T], threads: int | None = None
) -> Iterator[R]:
    """Yield what `function` gives for the items, in order, computed by threads a little ahead of the consumer.

    function: from some items to one result for each.
    """
    rest = iter(items)
    for results in in_parts(function, iter(lambda: list(islice(rest, TOGETHER)), []), threads):
        yield from results


def in_parts(function: Callable[[P], R], parts: Iterable[P], threads: int | None = None) -> Iterator[R]:
    """Yield what `function` gives for each part, in order, computed by threads a little ahead of the consumer."""
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
    """Run a generator to its end: what it returns."""
    while True:
        try:
            next(progress)
        except StopIteration as end:
            result: R = end.value
            return result
