"""Being asked to stop: Ctrl-C, SIGTERM and a closed terminal end the run at the next step, after a checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

_SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class Terminated(SystemExit):
    """The run was asked to end by a signal other than SIGINT, and has saved; the exit code is 143 for SIGTERM."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(128 + number)


class Interruption:
    """A `with` block in which the first signal to stop is noted, and the second ends the program at once.

    Signals that are ignored (nohup) stay so. Outside the main thread signals cannot be caught, and nothing is noted.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def error(self) -> BaseException:
        """What to raise once everything is saved."""
        return _error(self.received or signal.SIGINT)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise _error(number)
        self.received = signal.Signals(number)


def _error(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
