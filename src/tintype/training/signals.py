"""Being asked to stop: Ctrl-C, SIGTERM and a closed terminal end the run at the next step, after a checkpoint.

So does SIGUSR2, which a batch system sends before it takes the machine away. SIGUSR1 asks where the run stands.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

PREEMPTED = 75  # exit code that asks to be started again: EX_TEMPFAIL of sysexits.h
_SIGNALS = [
    *(signal.SIGINT, signal.SIGTERM),
    *([signal.SIGHUP, signal.SIGUSR2] if hasattr(signal, "SIGHUP") else []),
]


class Terminated(SystemExit):
    """The run was asked to end by a signal other than SIGINT, and has saved.

    The exit code is 143 for SIGTERM, 129 for SIGHUP and 75 for SIGUSR2, which means: preempted, start me again.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(PREEMPTED if signal.Signals(number).name == "SIGUSR2" else 128 + number)


class Interruption:
    """A `with` block in which the first signal to stop is noted, and the second ends the program at once.

    Signals that are ignored (nohup) stay so. Outside the main thread signals cannot be caught, and nothing is noted.

    Args:
        release: whether signals take their usual course in a `released` block.
    """

    def __init__(self, *, release: bool = False) -> None:
        self._release = release
        self.received: signal.Signals | None = None
        self.asked = False  # where the run stands
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heard}
            if hasattr(signal, "SIGUSR1"):
                self._before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._ask)
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
        """A `with` block, inside the other, in which code of somebody else runs: it gets its own signals."""
        if not self._release:
            yield
            return
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()

    def error(self) -> BaseException:
        """What to raise once everything is saved."""
        return _error(self.received or signal.SIGINT)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise _error(number)
        self.received = signal.Signals(number)


def _error(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
