"""Groups of jobs take turns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tintype.serving.engine.groups import Groups


def job(model: str, side: int = 16) -> Any:
    return SimpleNamespace(job=SimpleNamespace(task=SimpleNamespace(pipeline=model, size=(side, side))))


def test_no_group_waits_longer_than_a_turn_of_each_other() -> None:
    groups, jobs = Groups(), [job("a"), job("b"), job("a"), job("a", 32)]
    turns = [groups.next(jobs) for _ in range(6)]
    names = [turn[0] for turn in turns if turn is not None]
    assert names == 2 * [("a", (16, 16)), ("b", (16, 16)), ("a", (32, 32))]
    assert turns[0] is not None
    assert turns[0][1] == [jobs[0], jobs[2]]
    new = groups.next([*jobs, job("c")])
    assert new is not None
    assert new[0][0] == "c"  # a new group does not wait for the others
    assert groups.next([]) is None
