"""Pillow warnings are hidden: they come once for each picture, and reports name the same faults once."""

from __future__ import annotations

import threading
import warnings
from types import TracebackType


class _Ignored:
    """A `with` block, in any number of threads at once, in which warnings of Pillow are ignored.

    `warnings.catch_warnings` changes the whole process, so that threads must not leave it in another order than they
    entered: the first to enter changes the filters, and the last to leave restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.__exit__(kind, error, trace)


pillow_warnings_ignored = _Ignored()
