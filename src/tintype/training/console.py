"""Plain lines on the terminal, and durations and sizes in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from tintype.printable import one_line

LINE_SECONDS = 10.0  # between plain lines of progress, where there is no terminal
_MINUTE = 60.0


def say(console: Console, text: str) -> None:
    """Print one plain line at once, fit for a terminal. A closed pipe does not stop the run."""
    try:
        console.print(one_line(text), markup=False, highlight=False, emoji=False, soft_wrap=True)
        console.file.flush()
    except (OSError, ValueError, SystemExit):  # rich ends the program when a pipe breaks
        console.quiet = True


@contextmanager
def doing(console: Console, text: str) -> Iterator[None]:
    """A `with` block that shows what is done in it: all the time on a terminal, else in a line at its start."""
    if console.is_terminal:
        with console.status(text):
            yield
    else:
        say(console, text)
        yield


def duration(seconds: float) -> str:
    """47 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / _MINUTE)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(num: float) -> str:
    """A number of bytes in words: 12 MiB, 3.4 GiB."""
    return f"{num / 2**20:,.0f} MiB" if num < 2**30 else f"{num / 2**30:,.1f} GiB"
