"""Where a run stands, read from its folder."""

from __future__ import annotations

import json
from pathlib import Path

from tintype.training.checkpoints.run_folder import locked
from tintype.training.monitor.status import standing


def write(run: Path, *rows: dict[str, object]) -> None:
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


STEP = {"images_seen": 400, "loss": 0.5, "lr": 1e-3, "images_per_second": 10.0, "time": "2020-01-01T00:00:00+00:00"}


def test_a_run_at_work_says_how_fast_and_how_long(tmp_path: Path) -> None:
    write(tmp_path, STEP)
    with locked(tmp_path):
        told = dict(standing(tmp_path, 1000))
    assert told["at work"] == "yes, 10.0 images/s, 60 s left"
    assert told["loss"] == "0.5000 lately, learning rate 0.001"
    assert told["trouble"] == told["captions"] == told["checkpoints"] == ""


def test_a_run_that_stopped_says_since_when(tmp_path: Path) -> None:
    write(tmp_path, STEP)
    assert "no, last heard of" in dict(standing(tmp_path, 1000))["at work"]
    assert dict(standing(tmp_path, 400))["at work"] == "no, it is done"
    write(tmp_path, {**STEP, "time": "yesterday"})
    assert "some time ago" in dict(standing(tmp_path, 1000))["at work"]


def test_before_the_first_step_there_is_little_to_say(tmp_path: Path) -> None:
    assert standing(tmp_path, 10) == [("at work", "no")]
    with locked(tmp_path):
        assert standing(tmp_path, 10) == [("at work", "yes, preparing")]


def test_trouble_and_the_use_of_captions_are_told(tmp_path: Path) -> None:
    looked = {f"noise_error{kind}": {"3": error} for kind, error in (("", 0.1), ("_shuffled", 0.2), ("_empty", 0.15))}
    events = [{"images_seen": 8, "skipped": {}}, {"images_seen": 9, "skipped": {}}, {"images_seen": 9, "went_back": {}}]
    write(tmp_path, *events, {**STEP, **looked})
    told = dict(standing(tmp_path, 1000))
    assert told["trouble"] == "2 skipped steps, 1 returns; see log.jsonl"
    assert told["memory"] == ""
    assert "2.00 times as large with captions of other pictures, 1.50 times with none" in told["captions"]


def test_how_much_is_known_by_heart_is_told(tmp_path: Path) -> None:
    looked = {
        "noise_error": {"3": 0.2}, "noise_error_training": {"3": 0.15},
        "memorization": {"3": [0.25, 0.1, 0.4], "all": [0.3, 0.2, 0.41]},
    }  # fmt: skip
    write(tmp_path, {**STEP, **looked}, {**STEP, "images_seen": 500})
    told = dict(standing(tmp_path, 1000))["memory"]
    assert told.startswith("gauge 30 % [20, 41]: ")
    assert told.endswith("; at sigma 3 errors of 0.15 and 0.2")
    write(tmp_path, {**STEP, "memorization": {"all": [0.3, None, None]}})
    assert dict(standing(tmp_path, 1000))["memory"] == ""
