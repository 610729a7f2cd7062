import io

import pytest
from rich.console import Console

from tintype.cli import progress
from tintype.cli.progress import ProgressDisplay


def steps():
    for done in range(1, 4):
        yield "reading\x1b", done, 3
    return "result"


def test_without_a_terminal_a_line_appears_after_each_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 19.0, 20.0, 21.0])  # start, three updates
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    file = io.StringIO()
    with ProgressDisplay("loading", Console(file=file, width=100)) as display:
        assert display.follow(steps()) == "result"
    assert file.getvalue().strip() == r"reading\x1b: 2 of 3"


def test_a_terminal_shows_a_bar_with_the_last_count() -> None:
    file = io.StringIO()
    with ProgressDisplay("loading", Console(file=file, width=100, force_terminal=True)) as display:
        assert display.follow(steps()) == "result"
    assert "3/3" in file.getvalue()
    assert r"reading\x1b" in file.getvalue()
