"""The data of a run: captioned pictures as a cache or as a stream, read with a progress line, and their report."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from tintype.config import Config
from tintype.data.cache.builder import Progress
from tintype.data.cache.dataset_cache import DatasetCache
from tintype.data.cache.open_or_build import build_cache, build_index
from tintype.data.cache.stream import Stream
from tintype.data.check.report import Report
from tintype.data.images.decode import preprocess_for
from tintype.data.sources.exclude import Exclusions
from tintype.data.sources.pairs import Pair, Problem
from tintype.model.nets.text import TextEncoder
from tintype.training.console import LINE_SECONDS, say

T = TypeVar("T")
STATUS_SECONDS = 0.1  # between updates of the progress line; one for every picture would cost much of reading it


@dataclass(frozen=True, slots=True)
class DataSource:
    """The captioned pictures of a run, as a cache or as a stream."""

    config: Config
    pairs: Sequence[Pair]
    problems: list[Problem]
    encoder: TextEncoder
    exclusions: Exclusions
    folder: Path

    def dataset(self, console: Console) -> DatasetCache:
        """Open the cache, or build it."""
        preprocess = preprocess_for(self.config.net.resolution, self.config.data, self.config.net.multiple)
        progress = build_cache(self.pairs, preprocess, self.folder, self.encoder, self.problems, self.exclusions)
        return _with_status(progress, console)

    def stream(self, console: Console) -> Stream:
        """Check every picture, unless an earlier run did; decode pictures at every use."""
        preprocess = preprocess_for(self.config.net.resolution, self.config.data, self.config.net.multiple)
        progress = build_index(self.pairs, preprocess, self.folder, self.encoder, self.problems, self.exclusions)
        catalog = _with_status(progress, console)
        return Stream(catalog.folder, self.pairs, preprocess, self.encoder, catalog.problems)


def _with_status(progress: Generator[Progress, None, T], console: Console) -> T:
    """Run `progress` to its end and show it: all the time on a terminal, else every ten seconds."""
    updated = printed = time.monotonic()
    with console.status("reading pictures and captions") as status:
        while True:
            try:
                stage, done, total = next(progress)
            except StopIteration as end:
                result: T = end.value
                return result
            now = time.monotonic()
            if now - updated < STATUS_SECONDS:
                continue
            updated = now
            line = f"reading {stage}: {done:,} of {total:,}"
            if stage == "waiting":
                line = "another run is making the same cache; waiting for it"
            status.update(line)
            if not console.is_terminal and now - printed >= LINE_SECONDS:
                printed = now
                say(console, line)


def say_report(
    data: str, dataset: DatasetCache | Stream, pairs: Sequence[Pair], held_out: float | None, console: Console
) -> None:
    """Print the report of a data check; on resume (held_out is None) only what is left out."""
    if held_out is None:
        used = set(dataset.keys)
        report = Report(data, tuple(pair for pair in pairs if pair.key in used), tuple(dataset.problems), (), ())
    else:
        report = dataset.report(data, pairs, held_out)
    for line in report.lines():
        say(console, line)
