"""Signals: Ctrl-C, SIGTERM and a closed terminal end the run after the current step, with a checkpoint.

So does SIGUSR2, which batch systems send before they preempt a job. SIGUSR1 prints the status of the run.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from types import FrameType, TracebackType
from typing import TypeVar

T = TypeVar("T")
PREEMPTED = 75  # exit code that asks for a restart: EX_TEMPFAIL in sysexits.h
_SIGNALS = [
    *(signal.SIGINT, signal.SIGTERM),
    *([signal.SIGHUP, signal.SIGUSR2] if hasattr(signal, "SIGHUP") else []),
]


class Terminated(SystemExit):
    """A signal other than SIGINT ended the run, after a checkpoint.

    The exit code is 143 for SIGTERM, 129 for SIGHUP and 75 for SIGUSR2, which means: preempted, restart.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(PREEMPTED if signal.Signals(number).name == "SIGUSR2" else 128 + number)


class Interruption:
    """A `with` block that records the first signal to stop; the second ends the program at once.

    Ignored signals (nohup) stay ignored. Outside the main thread signals cannot be caught, and none is recorded.

    Args:
        release: restore the previous handlers inside `released` blocks.
    """

    def __init__(self, *, release: bool = False) -> None:
        self._release = release
        self.received: signal.Signals | None = None
        self.status_requested = False  # by SIGUSR1
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            signals = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._record) for number in signals}
            if hasattr(signal, "SIGUSR1"):
                self._before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._request_status)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    @contextmanager
    def released(self) -> Iterator[None]:
        """A `with` block inside the other one, for code of the caller, which gets its own signal handlers."""
        if not self._release:
            yield
            return
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()

    def finished(self, progress: Generator[object, None, T]) -> T | None:
        """Run a generator to its end. Returns its result; None if a signal came before, and the rest was left out."""
        with closing(progress):
            while self.received is None:
                try:
                    next(progress)
                except StopIteration as end:
                    result: T = end.value
                    return result
        return None

    def error(self) -> BaseException:
        """The exception to raise once everything is saved."""
        return _error(self.received or signal.SIGINT)

    def _request_status(self, number: int, frame: FrameType | None) -> None:
        self.status_requested = True

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise _error(number)
        self.received = signal.Signals(number)


def _error(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
