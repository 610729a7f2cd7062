"""Progress of long work on stderr: a bar on a terminal, an occasional line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tintype.printable import printable
from tintype.training.console import say

T = TypeVar("T")
BAR_SECONDS = 0.1  # between updates of the bar: more would slow fast work down
LINE_SECONDS = 20.0  # between lines where there is no terminal


class ProgressDisplay:
    """A bar on a terminal, gone at the end of the `with` block; elsewhere a line every `LINE_SECONDS`.

    Args:
        stage: description of the bar before the first update.
        console: for tests; None: stderr.
    """

    def __init__(self, stage: str, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(stage, total=None)
        self._stage = stage
        self._updated = 0.0 if self._console.is_terminal else time.monotonic()

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def update(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` parts of `stage` are finished, unless the last update is too recent."""
        now = time.monotonic()
        if self._console.is_terminal:
            if stage != self._stage:
                self._stage, self._updated = stage, 0.0
                self._bar.reset(self._task, description=printable(stage))  # the time left starts over
            if done == total or now - self._updated >= BAR_SECONDS:
                self._updated = now
                self._bar.update(self._task, completed=done, total=total)
        elif now - self._updated >= LINE_SECONDS:
            self._updated = now
            say(self._console, f"{stage}: {done:,} of {total:,}")

    def follow(self, work: Generator[tuple[str, int, int], None, T]) -> T:
        """Run a generator of (stage, done, total) to its end. Returns its result."""
        while True:
            try:
                stage, done, total = next(work)
            except StopIteration as end:
                result: T = end.value
                return result
            self.update(stage, done, total)
