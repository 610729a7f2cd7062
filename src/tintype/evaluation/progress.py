"""Work that takes time, told as it goes."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Progress(NamedTuple):
    """How far one stage is."""

    stage: str
    done: int
    total: int


def with_progress(stage: str, total: int, work: Generator[int, None, T]) -> Generator[Progress, None, T]:
    """Turn counts of what was done into progress; gives what `work` returns."""
    done = 0
    yield Progress(stage, 0, total)
    while True:
        try:
            done += next(work)
        except StopIteration as end:
            found: T = end.value
            return found
        yield Progress(stage, min(done, total), total)
