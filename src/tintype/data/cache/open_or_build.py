"""Cache access: a cache that is up to date is opened, a missing one is built, an unfinished one is resumed."""

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
    cache_type: type[C],
    pairs: Sequence[Pair],
    preprocess: Preprocess,
    folder: Path,
    encoder: CaptionEncoder,
    problems: Sequence[Problem] = (),
    exclusions: Exclusions | None = None,
) -> Generator[Progress, None, C]:
    """Open the cache of `pairs` in `folder`, or build it if it is missing or the data have changed.

    cache_type: `DatasetCache`; or `DatasetIndex`, without pixels and text embeddings, for data larger than the disk.
        Either way, every picture is read and checked.

    The cache leaves out unusable files and lists them in its `problems`, after those passed in. A killed process, or
    a closed generator, loses at most two seconds of work: the next call resumes and writes the same
    bytes. Raises DataError if no picture is usable, or if the disk is full or has too little room.
    """
    pairs = list(pairs)  # for several passes
    exclusions = exclusions or Exclusions()
    fingerprint = f"{cache_type.PREFIX}-{source_fingerprint(pairs, preprocess, encoder.identity, exclusions)[:16]}"
    try:
        cache = _finished(cache_type, folder, fingerprint, problems)
        if cache is not None:
            return cache
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            work = folder / f".packing-{fingerprint}"
            lock = FileLock(folder / f".lock-{fingerprint}")
            try:
                while not _locked(lock, stack):
                    yield Progress("waiting", 0, 1)
            except (
                OSError,
                NotImplementedError,
            ):  # a file system without locks: use a folder of its own
                work = folder / f".packing-{fingerprint}-{secrets.token_hex(4)}"
            cache = _finished(cache_type, folder, fingerprint, problems)  # another process may have built it meanwhile
            if cache is None:
                _sweep(folder)
                work.mkdir(exist_ok=True)
                yield from Builder(cache_type, work, pairs, preprocess, encoder, exclusions).build(folder, fingerprint)
                cache = _finished(cache_type, folder, fingerprint, problems)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"the cache cannot be written to {printable(str(folder))}: {reason}") from error
    if cache is None:
        raise DataError(
            f"the cache in {printable(str(folder))} vanished after it was written; is another program deleting it?"
        )
    return cache


build_cache = partial(open_or_build, DatasetCache)
build_index = partial(open_or_build, DatasetIndex)


def _locked(lock: FileLock, stack: ExitStack) -> bool:
    try:
        stack.enter_context(lock.acquire(timeout=0.5, poll_interval=0.1))
    except Timeout:
        return False
    return True


def _finished(cache_type: type[C], folder: Path, fingerprint: str, problems: Sequence[Problem]) -> C | None:
    try:
        about = json.loads((folder / f"stamp-{fingerprint}.json").read_text(encoding="utf-8"))
        cached_problems = [Problem(path, reason) for path, reason in about["problems"]]
        return cache_type(folder / about["pack"], [*problems, *cached_problems])
    except (DataError, OSError, ValueError, KeyError, TypeError):
        return None


def _sweep(folder: Path) -> None:
    """Remove unfinished caches that no process has resumed for a day."""
    for old in folder.glob(".packing-*.jsonl"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _DAY:
                shutil.rmtree(old.with_suffix(""), ignore_errors=True)
                old.unlink()
