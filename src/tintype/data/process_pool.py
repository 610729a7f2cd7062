"""Do the same thing to many parts of something in processes, where threads would wait for each other (Linux only)."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TypeVar

from tintype.errors import DataError

P = TypeVar("P")
R = TypeVar("R")
_PIPE = 2**20  # bytes of results that a process may be ahead of the reader; the most that Linux grants anyone
_TOKENIZERS = "TOKENIZERS_PARALLELISM"


def can_fork() -> bool:
    """Whether this process may have children that are copies of it."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def in_processes(function: Callable[[P], R], parts: Sequence[P], processes: int) -> Iterator[R]:
    """Yield what `function` gives for each part, in order, computed by copies of this process ahead of the consumer.

    Each process does every so-many-th part, and waits when its pipe is full. None outlives this process by more than
    one part. Raises what `function` raises, and DataError if a process is killed, for lack of memory perhaps.
    """
    one_at_a_time.share()
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    workers = [
        context.Process(target=_work, args=(function, parts, number, pipes), daemon=True, name=f"tintype-read-{number}")
        for number in range(processes)
    ]
    started = []
    try:
        with _without_warnings():
            for worker in workers:
                worker.start()
                started.append(worker)
        for _, sending in pipes:
            _widen(sending)
            sending.close()
        for turn in range(len(parts)):
            receiving = pipes[turn % processes][0]
            try:
                failed, answer = receiving.recv()
            except (EOFError, OSError):
                raise DataError("a process that reads pictures was killed: is there too little memory?") from None
            if failed:
                raise answer
            yield answer
    finally:
        for worker in started:
            worker.kill()  # they write nothing
        for receiving, sending in pipes:
            receiving.close()
            sending.close()
        for worker in started:
            worker.join()
            worker.close()


def _work(
    function: Callable[[P], R], parts: Sequence[P], number: int, pipes: Sequence[tuple[Connection, Connection]]
) -> None:
    """What one process does."""
    for sent_to_all in (signal.SIGINT, signal.SIGTERM):  # by a terminal or a scheduler: the parent ends this process
        signal.signal(sent_to_all, signal.SIG_IGN)
    for other, (receiving, sending) in enumerate(pipes):
        receiving.close()  # so that sending fails once the parent is gone
        if other != number:
            sending.close()
    gc.freeze()  # what was there before is not looked through, and so not copied
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # the threads it had are not copied
    sending = pipes[number][1]
    with suppress(OSError):
        for part in parts[number :: len(pipes)]:
            try:
                answer = False, function(part)
            except Exception as error:
                sending.send((True, error))
                return
            sending.send(answer)


def _widen(sending: Connection) -> None:
    import fcntl

    with suppress(OSError, AttributeError):
        fcntl.fcntl(sending.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep tokenizers and Python from warning of threads that a fork does not copy: the copies use none."""
    before = os.environ.get(_TOKENIZERS)
    os.environ.setdefault(_TOKENIZERS, "false")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*multi-threaded.*")
            yield
    finally:
        if before is None:
            del os.environ[_TOKENIZERS]


class _OneAtATime:
    """A `with` block that only one thread is in, of this process and of all that `forked` starts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file = -1  # locked by the process that is in the block: a lock that ends with its process

    def share(self) -> None:
        """To be called before this process is copied."""
        if self._file < 0 and hasattr(os, "memfd_create"):
            self._file = os.memfd_create("tintype")

    def __enter__(self) -> None:
        self._lock.acquire()
        self._lock_file(True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock_file(False)
        self._lock.release()

    def _lock_file(self, lock: bool) -> None:
        if self._file >= 0:
            import fcntl

            with suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_EX if lock else fcntl.LOCK_UN)


one_at_a_time = _OneAtATime()
