"""A run in the page: its progress while it trains."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path

import httpx
import pytest
from tests.serving.conftest import live

from tintype.serving.catalog import Catalog
from tintype.training.monitor import log_rows
from tintype.training.monitor.log_rows import trim_log


def test_a_run_is_shown_while_it_trains(run: Path, tiny_model: Path) -> None:
    with live_of(run, tiny_model) as http:
        assert http.get("/api/runs").json() == {"runs": ["my-run"]}
        progress = http.get("/api/runs/my-run").json()
        assert (progress["images_seen"], progress["images"], progress["finished"]) == (90_000, 500_000, False)
        assert progress["seconds_left"] == pytest.approx(410_000 / 50)
        assert 0 <= progress["seconds_since"] < 60
        assert len(progress["loss"]) <= 401
        assert progress["loss"][-1] == [90_000, 1 / 900]
        assert [row["images_seen"] for row in progress["noise_error"]] == [10_000 * i for i in range(1, 10)]
        assert progress["samples"][-1] == {"images_seen": 90_000, "file": "seen-000090000.png"}
        assert http.get("/api/runs/my-run/samples/seen-000090000.png").content == b"\x89PNG late"
        assert http.get("/api/runs/my-run/samples/captions.txt").status_code == 404
        assert http.get("/api/runs/tiny").status_code == 404
        assert progress["plan"]["sizes"] == [[16, 16]]
        assert progress["can_generate"] is False
        assert http.post("/api/jobs", json={"prompt": "a", "model": "my-run"}).status_code == 404


def test_errors_of_a_run_do_not_say_where_it_lies(run: Path, tiny_model: Path) -> None:
    with live_of(run, tiny_model) as http:
        (run / "config.json").write_text("{")
        damaged = http.get("/api/runs/my-run")
        assert (damaged.status_code, damaged.json()["error"]["code"]) == (500, "run_damaged")
        shutil.rmtree(run)
        gone = http.get("/api/runs/my-run")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "run_not_found")
        for answer in (damaged, gone):
            assert str(run.parent) not in answer.text
            assert "/" not in answer.json()["error"]["message"]


def live_of(run: Path, tiny_model: Path) -> httpx.Client:
    """Without a socket: none of this needs one."""
    from fastapi.testclient import TestClient

    from tintype.serving.api.app import create_app
    from tintype.serving.settings import Settings

    app, _ = create_app(Catalog([tiny_model, run], "cpu"), Settings(max_batch=4))
    return TestClient(app, base_url="http://localhost")  # type: ignore[return-value]


def test_a_run_without_a_checkpoint_says_so(run: Path) -> None:
    with live(run) as server:
        answer = httpx.post(f"{server.url}/v1/images/generations", json={"prompt": "a"}, trust_env=False)
        assert answer.status_code == 503
        assert "checkpoint" in answer.json()["error"]["message"]


def test_each_poll_reads_what_was_added_and_answers_as_if_it_had_read_all(
    run: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    original = log_rows._row
    monkeypatch.setattr(log_rows, "_row", lambda line: parsed.append(line) or original(line))

    def answer(http: httpx.Client) -> dict[str, object]:
        content = http.get("/api/runs/my-run").json()
        assert content.pop("seconds_since") is not None
        return dict(content)

    with live_of(run, tiny_model) as http:
        answer(http)
        parsed.clear()
        assert answer(http)["images_seen"] == 90_000
        assert parsed == []
        now = datetime.datetime.now(datetime.UTC).isoformat()
        rows = [
            {"images_seen": 90_100 + i, "loss": 0.5 + i, "images_per_second": 9 + i, "time": now} for i in range(40)
        ]
        rows[7]["noise_error"] = {"3": 0.25}
        with (run / "log.jsonl").open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        polled = answer(http)
        assert len(parsed) == 40
        with live_of(run, tiny_model) as other:
            assert polled == answer(other)
        assert polled["loss"][-1] == [90_139, 39.5]  # type: ignore[index]
        assert polled["seconds_left"] == pytest.approx((500_000 - 90_139) / (9 + 25))
        trim_log(run / "log.jsonl", 50_000)  # the run resumed from an earlier checkpoint
        assert answer(http)["images_seen"] == 50_000
