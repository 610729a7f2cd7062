"""A process pool: a parallel, ordered map where threads would wait for each other (Linux only)."""

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
_PIPE = 2**20  # bytes of results that a process may be ahead of the reader; the most that Linux grants
_TOKENIZERS = "TOKENIZERS_PARALLELISM"


def can_fork() -> bool:
    """Whether this process may fork."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def map_processes(function: Callable[[P], R], parts: Sequence[P], processes: int) -> Iterator[R]:
    """Yield the result of `function` for each part, in order; forks of this process compute ahead of the consumer.

    Of P processes, each computes every P-th part, and waits when its pipe is full. A process outlives this one by at
    most one part. Raises the errors of `function`, and DataError if a process is killed, for lack of memory perhaps.
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
    """The work of one process."""
    for sent_to_all in (signal.SIGINT, signal.SIGTERM):  # by a terminal or a scheduler: the parent ends this process
        signal.signal(sent_to_all, signal.SIG_IGN)
    for other, (receiving, sending) in enumerate(pipes):
        receiving.close()  # so that sending fails once the parent is gone
        if other != number:
            sending.close()
    gc.freeze()  # the collector leaves the parent's objects alone, so that their memory stays shared
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # a fork has no other threads
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
    """A lock for one thread at a time, of this process and of its forks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file = -1  # locked by the process that is in the block: a lock that ends with its process

    def share(self) -> None:
        """Make the lock work across forks; call it before forking."""
        if self._file < 0 and hasattr(os, "memfd_create"):
            self._file = os.memfd_create("tintype")

    def __enter__(self) -> None:
        self._lock.acquire()
        self._lock_file(True)

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock_file(False)
        self._lock.release()

    def _lock_file(self, lock: bool) -> None:
        if self._file >= 0:
            import fcntl

            with suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_EX if lock else fcntl.LOCK_UN)


one_at_a_time = _OneAtATime()
