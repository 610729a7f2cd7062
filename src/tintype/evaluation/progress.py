"""Progress of long-running stages."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class StageProgress(NamedTuple):
    """How much of one stage is done."""

    stage: str
    done: int
    total: int


def with_progress(stage: str, total: int, work: Generator[int, None, T]) -> Generator[StageProgress, None, T]:
    """Turn the counts that `work` yields into progress; returns what `work` returns."""
    done = 0
    yield StageProgress(stage, 0, total)
    while True:
        try:
            done += next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        yield StageProgress(stage, min(done, total), total)
