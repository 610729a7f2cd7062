"""Caches: decode and encode once, in parallel; resume where a killed process stopped."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from tintype.data.cache.builder import Builder, CaptionEncoder, Progress
from tintype.data.cache.dataset_cache import DatasetCache
from tintype.data.cache.fingerprints import source_fingerprint
from tintype.data.cache.index import DatasetIndex
from tintype.data.images.decode import Preprocess
from tintype.data.sources.exclude import Exclusions
from tintype.data.sources.pairs import Pair, Problem
from tintype.errors import DataError
from tintype.printable import printable

C = TypeVar("C", bound=DatasetIndex)
_DAY = 86_400


def open_or_build(
    kind: type[C],
    pairs: Sequence[Pair],
    preprocess: Preprocess,
    folder: Path,
    encoder: CaptionEncoder,
    problems: Sequence[Problem] = (),
    exclusions: Exclusions | None = None,
) -> Generator[Progress, None, C]:
    """Build the cache of `pairs` in `folder`, or open the one that is there if nothing has changed.

    kind: `DatasetCache`; or `DatasetIndex`, which has no pixels and text embeddings, for data that are larger than the
        disk. Every picture is read and checked for either.

    A file that cannot be used is left out and listed in `problems` of the result, after the given ones. A process that
    is killed, or a generator that is closed, loses at most two seconds of work: the next call goes on, to the same
    bytes. Raises DataError if no picture is usable, or if the disk is full or has too little room.
    """
    pairs = list(pairs)  # gone through several times
    exclusions = exclusions or Exclusions()
    stamp = f"{kind.PREFIX}-{source_fingerprint(pairs, preprocess, encoder.identity, exclusions)[:16]}"
    try:
        found = _finished(kind, folder, stamp, problems)
        if found is not None:
            return found
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            work = folder / f".packing-{stamp}"
            lock = FileLock(folder / f".lock-{stamp}")
            try:
                while not _locked(lock, stack):
                    yield Progress("waiting", 0, 1)
            except (OSError, NotImplementedError):  # a file system without locks: nobody else may use this folder
                work = folder / f".packing-{stamp}-{secrets.token_hex(4)}"
            found = _finished(kind, folder, stamp, problems)  # by the one that was waited for
            if found is None:
                _sweep(folder)
                work.mkdir(exist_ok=True)
                yield from Builder(kind, work, pairs, preprocess, encoder, exclusions).build(folder, stamp)
                found = _finished(kind, folder, stamp, problems)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise DataError(f"the cache cannot be written to {printable(str(folder))}: {why}") from error
    if found is None:
        raise DataError(
            f"the cache in {printable(str(folder))} vanished after it was written; is another program deleting it?"
        )
    return found


build_cache = partial(open_or_build, DatasetCache)
build_index = partial(open_or_build, DatasetIndex)


def _locked(lock: FileLock, stack: ExitStack) -> bool:
    try:
        stack.enter_context(lock.acquire(timeout=0.5, poll_interval=0.1))
    except Timeout:
        return False
    return True


def _finished(kind: type[C], folder: Path, stamp: str, problems: Sequence[Problem]) -> C | None:
    try:
        about = json.loads((folder / f"stamp-{stamp}.json").read_text(encoding="utf-8"))
        own = [Problem(path, reason) for path, reason in about["problems"]]
        return kind(folder / about["pack"], [*problems, *own])
    except (DataError, OSError, ValueError, KeyError, TypeError):
        return None


def _sweep(folder: Path) -> None:
    """Remove what nobody has gone on with for a day."""
    for old in folder.glob(".packing-*.jsonl"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _DAY:
                shutil.rmtree(old.with_suffix(""), ignore_errors=True)
                old.unlink()
