"""The verdict on a data set, and the tasks that make it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.studio.conftest import code, picture

from tintype.studio import worker
from tintype.studio.places import Places
from tintype.studio.tasks import Task, Tasks

URL = "/api/studio/datasets/squares"


@pytest.fixture
def checked(client: TestClient, dataset: object, places: Places, root: Path, tmp_path: Path) -> TestClient:
    """A data set with a damaged picture, a copy and a link that leads out of the root, scanned and checked."""
    folder = root / "Pictures" / "squares"
    (folder / "broken.png").write_bytes((folder / "red.png").read_bytes()[:60])
    (folder / "broken.txt").write_text("a broken square")
    shutil.copy(folder / "red.png", folder / "red again.png")
    picture(tmp_path / "secret.png", "purple")
    (folder / "secret.png").symlink_to(tmp_path / "secret.png")
    (folder / "far").symlink_to(tmp_path)
    (folder / "drawing.svg").write_text("<svg/>")
    assert code(client.get(f"{URL}/verdict")) == (404, "not_checked")
    assert worker.main(["scan", str(places.root), str(places.studio), "squares", "32"]) == 0
    return client


def test_what_is_used_and_what_is_not(checked: TestClient) -> None:
    verdict = checked.get(f"{URL}/verdict").json()
    assert verdict["stale"] is False
    assert verdict["usable"] == 5
    reasons = {problem["reason"]: problem for problem in verdict["problems"] if problem["left_out"]}
    assert any(reason.startswith("damaged") for reason in reasons)
    (outside,) = (problem for reason, problem in reasons.items() if "link out" in reason)
    assert "secret.png" in {shown["path"] for shown in outside["pictures"]}
    assert any(".svg" in reason for reason in reasons)
    assert not any("links to files outside" in json.dumps(part) for part in (verdict["notes"], verdict["problems"]))
    assert not any("empty caption" in note or "pictures/" in note for note in verdict["notes"])
    assert any("(red again.png = red.png)" in note for note in verdict["notes"])
    copies = next(part for part in verdict["worst"] if part["title"] == "exact copies")
    assert {shown["path"] for shown in copies["pictures"]} == {"red.png", "red again.png"}
    for shown in copies["pictures"]:
        answer = checked.get(f"{URL}/thumbnails/{shown['row']}?side=32")
        assert answer.headers["content-type"] == "image/jpeg"
    every = checked.get(f"{URL}/problems", params={"limit": 2}).json()
    assert len(every["problems"]) == 2
    assert every["total"] >= 3
    row = next(problem["row"] for problem in checked.get(f"{URL}/problems").json()["problems"] if problem["row"])
    assert code(checked.get(f"{URL}/thumbnails/{row}")) == (422, "picture_unreadable")
    assert checked.get(f"{URL}/thumbnails/{row}?quiet=true").status_code == 204  # which no console notes
    assert checked.get(URL).json()["different"] == 3  # the copy is left aside, and one picture has no caption
    assert checked.get(URL).json()["checked"] is True
    checked.post(f"{URL}/captions", json={"op": "set", "caption": "a square"})
    assert checked.get(f"{URL}/verdict").json()["stale"] is True


def test_a_folder_without_any_picture_has_a_verdict_too(client: TestClient, places: Places, root: Path) -> None:
    (root / "empty").mkdir()
    number = client.post("/api/studio/datasets", json={"name": "Empty", "folder": "empty"}).json()["dataset"]["id"]
    worker.main(["scan", str(places.root), str(places.studio), number, "32"])
    verdict = client.get(f"/api/studio/datasets/{number}/verdict").json()
    assert (verdict["usable"], verdict["verdict"]) == (0, "no picture can be used")
    assert str(places.studio) not in json.dumps(verdict)


@pytest.fixture
def tasks() -> Iterator[Tasks]:
    made = Tasks()
    yield made
    made.close()


def over(task: Task) -> Task:
    end = time.monotonic() + 60
    while task.is_open:
        assert time.monotonic() < end
        time.sleep(0.01)
    return task


def python(*lines: str) -> tuple[str, str]:
    return "-c", "\n".join(lines)


def test_tasks_report_and_one_that_dies_takes_no_other_along(tasks: Tasks, places: Places) -> None:
    kill = "import os; os.kill(os.getpid(), 9)"
    died = tasks.add("check", "a", python(kill))
    refused = tasks.add("plan", "a", python("import sys", "print('tintype: no room', flush=True)", "sys.exit(1)"))
    report = 'print(\'{"stage": "reading", "done": 3, "total": 4}\')'
    done = tasks.add("check", "a", python(report, "print('a line')"), lambda lines: {"lines": lines})
    assert (over(died).state, died.error) == ("failed", "it ended without a word")
    assert (over(refused).state, refused.error) == ("failed", "no room")
    assert (over(done).state, done.stage, done.done, done.total) == ("done", "reading", 3, 4)
    assert done.result == {"lines": ["a line"]}


def test_tasks_are_cancelled_waiting_and_running(tasks: Tasks, tmp_path: Path) -> None:
    sleeps: Callable[[int], tuple[str, str]] = lambda number: python("import time", f"time.sleep({60 + number})")  # noqa: E731
    first, second = tasks.add("check", "a", sleeps(0)), tasks.add("check", "b", sleeps(1))
    assert tasks.add("check", "b", sleeps(1)) is second  # asked for twice, done once
    tasks.cancel(second)
    tasks.cancel(first)
    assert (over(first).state, over(second).state) == ("cancelled", "cancelled")
    assert over(tasks.add("check", "a", python("pass"))).state == "done"
