"""Logs of any content are read in bounded memory, as rows of which nobody has to check the types."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from tintype.config import TrainConfig
from tintype.training.monitor import log_rows
from tintype.training.monitor.log_rows import read_log, trim_log
from tintype.training.monitor.status import run_status

GOOD = {"images_seen": 8, "loss": 0.5, "lr": 1e-3, "images_per_second": 4.0, "time": "2020-01-01T00:00:00+00:00"}
ODD: list[Any] = [None, True, -1, 10**400, 1e999, math.nan, "x", "9" * 5000, "2020-01-01", [], [1], {}, {"3": {}}]
ODD += [{"x": 1}, {"3": "y"}, {"3": [1]}, {"all": [1, 2]}, {"all": [None, "a", {}]}, {"1_0": 0.5, "3": 0.5}]
NUMBERS = ("loss", "lr", "images_per_second")


@pytest.mark.parametrize("name", [*GOOD, "grad_norm", "noise_error", "noise_error_shuffled", "memorization", "spike"])
def test_entries_of_odd_kinds_stop_nothing(tmp_path: Path, name: str) -> None:
    looked = {f"noise_error{kind}": {"3": 0.5} for kind in ("", "_shuffled", "_empty", "_training")}
    rows = [{**GOOD, **looked, name: odd} for odd in ODD]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in read_log(tmp_path / "log.jsonl"):
        assert type(row["images_seen"]) is int
        assert all(row[key] is None or math.isfinite(row[key]) for key in NUMBERS if key in row)
        for levels in (row[key] for key in row if key.startswith("noise_error")):
            assert all(float(level) and (error is None or error >= 0) for level, error in levels.items())
    for images in (4, 1000):
        assert dict(run_status(tmp_path, TrainConfig(images=images)))["running"]
    trim_log(tmp_path / "log.jsonl", 8)


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"images_seen": true}',
        b"7",
        b"\xff\xfe{",
        b'{"images_seen": 1e3}',
        b'"images_seen"',
        b"\0\0",
    ],
)
def test_lines_that_are_no_rows_are_left_out(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"images_seen": 1}\n' + line + b'\n{"images_seen": 2}')
    assert [row["images_seen"] for row in read_log(path)] == [1, 2]
    trim_log(path, 1)
    assert path.read_bytes() == b'{"images_seen": 1}\n'


def test_a_long_log_is_read_from_its_end_and_no_row_is_lost_when_a_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f'{{"images_seen": {number}}}\n' for number in range(1, 500)))
    monkeypatch.setattr(log_rows, "MAX_LOG_BYTES", 100)
    assert [row["images_seen"] for row in read_log(path)] == [496, 497, 498, 499]
    monkeypatch.setattr(log_rows, "MAX_LOG_BYTES", 2**20)
    monkeypatch.setattr(log_rows, "MAX_ROWS", 3)
    assert [row["images_seen"] for row in read_log(path)] == [497, 498, 499]
    trim_log(path, 450)
    assert len(path.read_text().splitlines()) == 450


def test_a_line_without_end_is_skipped_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_rows, "MAX_ROW_BYTES", 64)
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"images_seen": 1}\n{"images_seen": 2, "x": "' + b"y" * 1000 + b'"}\n{"images_seen": 3}\n')
    assert [row["images_seen"] for row in read_log(path)] == [1, 3]
    path.write_bytes(b"y" * 1000)
    assert read_log(path) == []


def test_a_pipe_a_folder_and_a_link_out_have_no_rows(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "secret").write_text('{"images_seen": 1}\n')
    (run / "log.jsonl").symlink_to(tmp_path / "secret")
    assert read_log(run / "log.jsonl", run) == []
    (run / "log.jsonl").unlink()
    os.mkfifo(run / "log.jsonl")
    assert read_log(run / "log.jsonl") == []
    trim_log(run / "log.jsonl", 5)
    (run / "log.jsonl").unlink()
    (run / "log.jsonl").mkdir()
    assert read_log(run / "log.jsonl") == []
    trim_log(run / "log.jsonl", 5)


def lines_of(*numbers: int) -> bytes:
    return b"".join(json.dumps({**GOOD, "images_seen": number}).encode() + b"\n" for number in numbers)


def seen(rows: list[dict[str, Any]]) -> list[int]:
    return [row["images_seen"] for row in rows]


def test_a_growing_log_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    original = log_rows._row
    monkeypatch.setattr(log_rows, "_row", lambda line: parsed.append(line) or original(line))
    path = tmp_path / "log.jsonl"
    reader = log_rows.LogReader(path)
    assert reader.new_rows() == ([], True)  # no file yet
    path.write_bytes(lines_of(*range(1000)))
    rows, is_new = reader.new_rows()
    assert (seen(rows), is_new) == (list(range(1000)), True)
    parsed.clear()
    assert reader.new_rows() == ([], False)
    half = lines_of(1001)[:30]
    with path.open("ab") as file:
        file.write(lines_of(1000) + half)
    assert seen(reader.new_rows()[0]) == [1000]
    with path.open("ab") as file:
        file.write(lines_of(1001)[30:] + b"\xff no row\n" + lines_of(1002).removesuffix(b"\n"))
    assert seen(reader.new_rows()[0]) == [1001, 1002]  # the last has no end of line, and is whole all the same
    with path.open("ab") as file:
        file.write(b"\n" + lines_of(1003))
    assert seen(reader.new_rows()[0]) == [1003]
    assert len(parsed) < 12
    assert seen(read_log(path)) == list(range(1004))


@pytest.mark.parametrize("change", ["shorter", "replaced", "other bytes", "gone"])
def test_a_log_that_is_another_one_is_read_again(tmp_path: Path, change: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(lines_of(1, 2, 3))
    reader = log_rows.LogReader(path)
    reader.new_rows()
    expected = [1, 2]
    if change == "shorter":
        trim_log(path, 2)
    elif change == "replaced":
        (tmp_path / "new").write_bytes(lines_of(1, 2, 3, 4))
        os.replace(tmp_path / "new", path)
        expected = [1, 2, 3, 4]
    elif change == "other bytes":
        with path.open("r+b") as file:
            file.write(lines_of(5, 6, 7, 8))
        expected = [5, 6, 7, 8]
    else:
        path.unlink()
        expected = []
    rows, is_new = reader.new_rows()
    assert (seen(rows), is_new) == (expected, True)


def test_of_a_log_that_is_too_long_the_newest_rows_are_read_and_then_what_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(lines_of(*range(100, 200)))
    monkeypatch.setattr(log_rows, "MAX_LOG_BYTES", 10 * len(lines_of(100)) + 5)
    reader = log_rows.LogReader(path)
    assert seen(reader.new_rows()[0]) == list(range(190, 200))
    with path.open("ab") as file:
        file.write(lines_of(200))
    assert reader.new_rows()[0][0]["images_seen"] == 200
