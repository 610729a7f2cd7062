"""The list of runs: what it says of each, what was measured in plain words, and the versions of the data they need."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.studio.conftest import code

from tintype.serving.catalog import Catalog
from tintype.studio.dataset import DataSet
from tintype.studio.record import RunRecord
from tintype.studio.run_notes import notes
from tintype.studio.studio import Studio


def finished(studio: Studio, name: str, version: str = "1") -> RunRecord:
    """A run that has ended, with a folder."""
    arguments = ["train", "/data", "--out", "/out", "--time", "30m"]
    record = RunRecord(name, "squares", version, {}, arguments, state="finished")
    record.save(studio.places.jobs)
    studio.queue.restore(record)
    (studio.places.runs / name).mkdir()
    return record


@pytest.fixture
def run(studio: Studio, client: TestClient, tiny_model: Path) -> Path:
    """A finished run that is served, with a validation in its log."""
    finished(studio, "mine")
    folder = studio.places.runs / "mine"
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    levels = {"0.3": 0.1, "3": 0.5}
    row = {"images_seen": 100, "noise_error": levels, "noise_error_shuffled": {"0.3": 0.1, "3": 0.6}}
    (folder / "log.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "samples").mkdir()
    (folder / "samples" / "seen-000000100.png").write_bytes(b"")
    studio.runs.catalog = Catalog([])
    studio.runs.serve()
    return folder


def test_the_overview_has_the_progress_of_a_run(run: Path, client: TestClient) -> None:
    progress = client.get("/api/studio", params={"run": "mine"}).json()["progress"]
    assert (progress["name"], progress["images_seen"]) == ("mine", 100)
    assert progress["samples"] == [{"images_seen": 100, "file": "seen-000000100.png"}]
    assert "error is 20% larger" in progress["notes"][0]


@pytest.mark.parametrize("name", ["", "gone", "../mine", "MINE", "tiny"])
def test_a_run_that_is_not_there_has_no_progress_and_is_no_error(run: Path, client: TestClient, name: str) -> None:
    answer = client.get("/api/studio", params={"run": name})
    assert (answer.status_code, answer.json()["progress"]) == (200, None)


def test_a_run_in_the_trash_is_served_no_longer(run: Path, client: TestClient) -> None:
    item = client.delete("/api/studio/runs/mine").json()["id"]
    assert client.get("/api/studio", params={"run": "mine"}).json()["progress"] is None
    back = client.post(f"/api/studio/trash/{item}/restore", json={}).json()
    assert back["name"] == "mine"
    assert "once its data set is back" in back["note"]  # there is none in this test


def test_versions_of_the_data_stay_as_long_as_a_run_can_come_back(
    studio: Studio, client: TestClient, dataset: DataSet
) -> None:
    versions = dataset.home / "data"
    for name in ("1", "2", "3"):
        (versions / name).mkdir(parents=True)
    finished(studio, "kept", "1")
    finished(studio, "thrown-away", "2")
    item = client.delete("/api/studio/runs/thrown-away").json()["id"]
    studio.scan(dataset)
    newest = str(dataset.table.revision)
    assert {path.name for path in versions.iterdir()} == {"1", "2"} | ({"3"} & {newest})
    assert client.post(f"/api/studio/trash/{item}/restore", json={}).json()["note"] == ""
    item = client.delete("/api/studio/runs/thrown-away").json()["id"]
    client.delete(f"/api/studio/trash/{item}")
    studio.scan(dataset, only_check=True)
    assert not (versions / "2").exists()


def test_a_finished_run_goes_on(studio: Studio, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studio.queue, "_advance", lambda: None)
    finished(studio, "mine")
    assert client.get("/api/studio/runs/mine").json()["can"] == ["extend", "delete"]
    extended = client.post("/api/studio/runs/mine/extend", json={"images": 5000}).json()
    assert (extended["state"], extended["command"]) == (
        "queued",
        "tintype train /data --out /out --images 5000 --no-stop",
    )
    assert code(client.post("/api/studio/runs/mine/extend", json={"images": 9000})) == (409, "not_possible")
    assert code(client.post("/api/studio/runs/other/extend", json={"images": 9000})) == (404, "run_not_found")


def test_a_run_is_not_made_shorter(run: Path, client: TestClient) -> None:
    assert code(client.post("/api/studio/runs/mine/extend", json={"images": 1})) == (400, "invalid_value")


def row(**more: Any) -> dict[str, Any]:
    return {"images_seen": 100, "noise_error": {"3": 0.5}, **more}


def test_notes_say_what_was_measured_and_nothing_else() -> None:
    assert notes(None, []) == []
    assert notes(row(), []) == []
    assert "no difference" in notes(row(noise_error_shuffled={"3": 0.505}), [])[0]
    assert "10% larger" in notes(row(noise_error_shuffled={"3": 0.55}), [])[0]
    assert "30% of the way" in notes(row(memorization={"all": [0.3, 0.2, 0.4]}), [])[0]
    assert "does not learn" in notes(row(memorization={"all": [0.01, -0.1, 0.1]}), [])[0]
    assert notes(row(memorization={"all": [0.2, -0.3, 0.9]}), []) == []  # too few pictures to say
    assert notes(row(memorization={"all": [None, None, None]}), []) == []


@pytest.mark.parametrize(("errors", "said"), [((4, 2, 1, 0.8), "fell by 60%"), ((4, 1, 1, 1), "no longer falls")])
def test_notes_say_whether_it_still_learns(errors: tuple[float, ...], said: str) -> None:
    history = [{"images_seen": 100 * (at + 1), "levels": {"3": error}} for at, error in enumerate(errors)]
    (note,) = notes(row(), history)
    assert said in note
    assert notes(row(), history[:3]) == []
