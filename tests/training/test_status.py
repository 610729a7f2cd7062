"""The status of a run, read from its folder."""

from __future__ import annotations

import json
from pathlib import Path

from tintype.config import TrainConfig
from tintype.training.checkpoints.run_folder import locked
from tintype.training.monitor.status import run_status


def write(run: Path, *rows: dict[str, object]) -> None:
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


STEP = {"images_seen": 400, "loss": 0.5, "lr": 1e-3, "images_per_second": 10.0, "time": "2020-01-01T00:00:00+00:00"}


def test_a_run_at_work_says_how_fast_and_how_long(tmp_path: Path) -> None:
    write(tmp_path, STEP)
    with locked(tmp_path):
        status = dict(run_status(tmp_path, TrainConfig(images=1000)))
    assert status["running"] == "yes, 10.0 images/s, 60 s left"
    assert status["loss"] == "0.5000 (median of the newest rows), learning rate 0.001"
    assert status["problems"] == status["captions"] == status["checkpoints"] == ""


def test_after_the_last_step_no_time_is_promised(tmp_path: Path) -> None:
    write(tmp_path, STEP)
    with locked(tmp_path):
        assert (
            dict(run_status(tmp_path, TrainConfig(images=400)))["running"]
            == "yes, finishing: after the last step it is measured and saved"
        )


def test_a_run_that_stopped_says_since_when(tmp_path: Path) -> None:
    write(tmp_path, STEP)
    assert "no, stopped" in dict(run_status(tmp_path, TrainConfig(images=1000)))["running"]
    assert (
        "no, stopped" in dict(run_status(tmp_path, TrainConfig(images=400)))["running"]
    )  # after the last step, before the model
    (tmp_path / "model.safetensors").touch()
    assert dict(run_status(tmp_path, TrainConfig(images=400)))["running"] == "no, finished"
    write(tmp_path, {**STEP, "time": "yesterday"})
    assert "an unknown time ago" in dict(run_status(tmp_path, TrainConfig(images=1000)))["running"]


def test_before_the_first_step_there_is_little_to_say(tmp_path: Path) -> None:
    assert run_status(tmp_path, TrainConfig(images=10)) == [("running", "no")]
    with locked(tmp_path):
        assert run_status(tmp_path, TrainConfig(images=10)) == [("running", "yes, preparing")]


def test_trouble_and_the_use_of_captions_are_told(tmp_path: Path) -> None:
    looked = {f"noise_error{kind}": {"3": error} for kind, error in (("", 0.1), ("_shuffled", 0.2), ("_empty", 0.15))}
    events = [{"images_seen": 8, "skipped": {}}, {"images_seen": 9, "skipped": {}}, {"images_seen": 9, "went_back": {}}]
    write(tmp_path, *events, {**STEP, **looked})
    status = dict(run_status(tmp_path, TrainConfig(images=1000)))
    assert status["problems"] == "2 skipped steps, 1 returns; see log.jsonl"
    assert status["memorization"] == ""
    assert "2.00 times as large with captions of other pictures, 1.50 times with none" in status["captions"]


def test_how_much_is_known_by_heart_is_told(tmp_path: Path) -> None:
    looked = {
        "noise_error": {"3": 0.2}, "noise_error_training": {"3": 0.15},
        "memorization": {"3": [0.25, 0.1, 0.4], "all": [0.3, 0.2, 0.41]},
    }  # fmt: skip
    write(tmp_path, {**STEP, **looked}, {**STEP, "images_seen": 500})
    status = dict(run_status(tmp_path, TrainConfig(images=1000)))["memorization"]
    assert status.startswith("gauge 30 % [20, 41]: ")
    assert status.endswith("; at sigma 3 errors of 0.15 and 0.2")
    write(tmp_path, {**STEP, "memorization": {"all": [0.3, None, None]}})
    assert dict(run_status(tmp_path, TrainConfig(images=1000)))["memorization"] == ""
