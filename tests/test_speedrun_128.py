"""bench/speedrun_128.py: which moments of a run are judged, and what the row of the board says."""

from __future__ import annotations

import argparse
import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parent.parent / "bench"
OPTIONS = argparse.Namespace(threads=2, seed=0, minutes=30.0, every=10.0, data=Path("fruit"))


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("speedrun_128")


def table(kind: float, network: float) -> dict[str, Any]:
    ends = {"frechet": [0.6, 0.5, 0.7], "frechet_real": [0.08, 0.06, 0.1], "copies": [0.0, 0.0, 0.02]}
    return {"kind_of_real": kind, "kind_network_of_real": network, **ends}


def test_marks_are_checkpoints_by_the_clock_and_the_finished_model(board: Any, tmp_path: Path) -> None:
    for step, minutes in ((100, 10.5), (200, 20.5), (300, 29.0)):
        folder = tmp_path / "checkpoints" / f"step-{step:08}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({"images_seen": 32 * step}))
        (folder / "manifest.json").write_text("{}")
        os.utime(folder / "manifest.json", (1000 + 60 * minutes, 1000 + 60 * minutes))
    (tmp_path / "log.jsonl").write_text(json.dumps({"images_seen": 9600}) + "\n")
    marks = board.marks_of(board.Recipe("tintype"), tmp_path, 1000.0, 30.0)
    assert [(mark.minutes, mark.images) for mark in marks] == [(10.5, 3200), (20.5, 6400), (30.0, 9600)]
    assert marks[-1].folder == tmp_path


def test_marks_of_other_libraries_say_themselves_when_they_were_made(board: Any, tmp_path: Path) -> None:
    for name, minutes in (("mark-0020.0", 20.1), ("mark-0010.0", 10.2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"minutes": minutes, "images_seen": 16}))
    marks = board.marks_of(board.Recipe("diffusers"), tmp_path, 0.0, 30.0)
    assert [mark.minutes for mark in marks] == [10.2, 20.1]


@pytest.mark.parametrize(
    ("shares", "reached"),
    [
        ([(0.9, 0.9), (0.5, 0.9), (0.9, 0.86), (0.9, 0.9)], 30.0),  # what was lost again does not count
        ([(0.9, 0.9)] * 4, 10.0),
        ([(0.9, 0.9)] * 3 + [(0.9, 0.84)], None),  # both judges must agree
    ],
)
def test_the_goal_is_reached_where_all_later_marks_reach_it_too(
    board: Any, monkeypatch: pytest.MonkeyPatch, shares: list[tuple[float, float]], reached: float | None
) -> None:
    marks = [board.Mark(Path(str(index)), 10.0 * (index + 1), index) for index in range(4)]
    monkeypatch.setattr(board.subprocess, "run", lambda command, check, env: None)
    monkeypatch.setattr(board, "marks_of", lambda recipe, out, started, minutes: marks)
    monkeypatch.setattr(board, "judged", lambda recipe, judges, mark, options: table(*shares[mark.images]))
    row = board.run(board.Recipe("tintype"), None, Path("held-out.txt"), Path("out"), OPTIONS)
    assert row.minutes_to_goal == reached
    assert row.last == marks[-1]
    assert row.table == table(*shares[-1])


def test_a_row_says_what_was_not_reached(board: Any) -> None:
    row = board.Row(board.Recipe("diffusers", 3e-4), None, board.Mark(Path(), 30.02, 4000), table(0.3, 0.25))
    assert board.board_row(row, OPTIONS) == (
        "| diffusers@0.0003 | 2 | not reached | 30.0 | 4,000 | 0.30 | 0.25 | 0.600 (0.080) | 0.0% | 0 |"
    )


@pytest.mark.parametrize("name", ["tintype", "smalldiffusion"])
def test_every_recipe_is_told_the_same_pictures_and_clock(board: Any, name: str) -> None:
    command = " ".join(board.training(board.Recipe(name), Path("out"), Path("held-out.txt"), OPTIONS))
    assert "fruit --out out --seed 0" in command
    assert "held-out.txt" in command
    assert "--time 30m --save-every 10m" in command or "--minutes 30 --every 10" in command
