"""Runs: one at a time, in processes that outlive the server, found again and never mistaken for others."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from tests.studio.conftest import code

from tintype.serving.api.errors import ApiError
from tintype.studio import run_queue
from tintype.studio.access import HEADER
from tintype.studio.dataset import DataSet
from tintype.studio.places import Places
from tintype.studio.process import ProcessId, started_at
from tintype.studio.record import RunRecord, read_records
from tintype.studio.run_queue import RunQueue
from tintype.studio.studio import Studio

WAITS = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit(143)); print('up', flush=True)\n"


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Stand-ins for training, which wait until they get a signal."""
    started: list[subprocess.Popen[bytes]] = []

    def start(arguments: list[str], log: Path, folder: Path) -> tuple[subprocess.Popen[bytes], ProcessId]:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", WAITS + "time.sleep(60)"], stdout=output, start_new_session=True
            )
        until(lambda: b"up" in log.read_bytes())
        started.append(process)
        return process, ProcessId(process.pid, started_at(process.pid))

    monkeypatch.setattr(run_queue, "start", start)
    yield started  # type: ignore[misc]
    for process in started:
        process.kill()
        process.wait()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def record(name: str) -> RunRecord:
    return RunRecord(name, "squares", "1", {}, ["train", "/nowhere"])


def states(queue: RunQueue) -> dict[str, str]:
    queue.tick()
    return {record.name: record.state for record in queue.records()}


def test_one_trains_and_the_others_wait(places: Places, processes: list[Any]) -> None:
    queue = RunQueue(places)
    for name in ("a", "b", "c"):
        queue.add(record(name))
    assert states(queue) == {"a": "running", "b": "queued", "c": "queued"}
    queue.stop("b")
    queue.pause("a")
    until(lambda: states(queue)["a"] == "paused")
    assert states(queue) == {"a": "paused", "b": "stopped", "c": "running"}
    queue.resume("a")
    assert states(queue)["a"] == "queued"
    processes[-1].kill()
    until(lambda: states(queue)["c"] == "interrupted")
    assert states(queue)["a"] == "running"
    assert len(processes) == 3


def test_two_starts_at_once_begin_one_run(places: Places, processes: list[Any]) -> None:
    queue, barrier, taken = RunQueue(places), Barrier(4), list[str]()

    def add() -> None:
        barrier.wait()
        try:
            queue.add(record("same"))
        except ApiError as error:
            taken.append(error.code)

    threads = [Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == ["name_taken"] * 3
    assert len(processes) == 1


def test_the_next_server_finds_the_process(places: Places, processes: list[Any]) -> None:
    RunQueue(places).add(record("a"))
    queue = RunQueue(places)  # as after kill -9 of the server
    assert states(queue) == {"a": "running"}
    queue.pause("a")
    processes[0].wait()
    assert states(queue) == {"a": "paused"}


def test_the_next_server_goes_on_with_the_queue(places: Places, processes: list[Any]) -> None:
    """Nothing starts while there is no server; what waits begins once there is one again."""
    queue = RunQueue(places)
    for name in ("a", "b"):
        queue.add(record(name))
    processes[0].kill()
    processes[0].wait()  # after kill -9 of the server
    assert [found.state for found in read_records(places.jobs)] == ["running", "queued"]
    assert states(RunQueue(places)) == {"a": "interrupted", "b": "running"}


def test_a_recycled_number_is_not_the_process(places: Places, processes: list[Any]) -> None:
    """The record names this very process, with another start: it gets no signal, and the run has ended."""
    other = record("a")
    other.state, other.pid, other.process_started = "running", os.getpid(), started_at(os.getpid()) + "0"
    other.save(places.jobs)
    assert not other.process.send(signal.SIGTERM)
    assert states(RunQueue(places)) == {"a": "interrupted"}
    assert ProcessId(os.getpid(), started_at(os.getpid())).is_alive()
    assert started_at(2**22 + 1) == ""


@pytest.mark.skipif(shutil.which("ps") is None, reason="needs ps")
def test_processes_are_known_by_ps_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    known = ProcessId(process.pid, started_at(process.pid))
    assert known.started
    assert known.is_alive()
    process.kill()
    until(lambda: not known.is_alive())  # before it is reaped, too
    process.wait()
    assert started_at(process.pid) == ""


def test_damaged_records_are_passed_over(places: Places) -> None:
    (places.jobs / "a.json").write_text("{")
    (places.jobs / "b.json").write_text("[]")
    (places.jobs / "c.json").write_text(json.dumps({"name": "../../c"}))
    record("d").save(places.jobs)
    assert [found.name for found in read_records(places.jobs)] == ["d"]


def test_runs_over_http(client: TestClient, dataset: DataSet, processes: list[Any], places: Places) -> None:
    body = {"name": "My run", "dataset": "squares", "settings": {"images": 100, "size": 32}}
    run = client.post("/api/studio/runs", json=body).json()
    assert (run["name"], run["state"], run["can"]) == ("my-run", "preparing", ["pause", "stop"])
    assert code(client.post("/api/studio/runs", json=body)) == (409, "name_taken")
    assert code(client.delete("/api/studio/runs/my-run")) == (409, "not_possible")
    assert code(client.delete("/api/studio/datasets/squares")) == (409, "in_use")
    assert client.get("/api/studio/runs/my-run/log").json()["lines"] == ["up"]
    client.post("/api/studio/runs/my-run/stop", json={})
    queue = RunQueue(places)
    until(lambda: processes[0].poll() is not None)
    assert states(queue)["my-run"] == "stopped"


def test_a_deleted_run_and_data_set_come_back(client: TestClient, dataset: DataSet, studio: Studio) -> None:
    studio.queue.restore(record("old"))
    studio.queue.get("old").state = "stopped"  # type: ignore[union-attr]
    (studio.places.runs / "old").mkdir()
    (studio.places.runs / "old" / "config.json").write_text("{}")
    deleted = [client.delete(f"/api/studio/{path}").json() for path in ("runs/old", "datasets/squares")]
    overview = client.get("/api/studio").json()
    assert (overview["runs"], overview["datasets"], len(overview["trash"])) == ([], [], 2)
    assert not (studio.places.runs / "old").exists()
    for item in deleted:
        assert client.post(f"/api/studio/trash/{item['id']}/restore", json={}).status_code == 200
    overview = client.get("/api/studio").json()
    assert [run["name"] for run in overview["runs"]] == ["old"]
    assert [found["id"] for found in overview["datasets"]] == ["squares"]
    assert client.get("/api/studio/datasets/squares/captions").json()["total"] == 4
    again = client.delete("/api/studio/runs/old").json()["id"]
    assert client.delete(f"/api/studio/trash/{again}").status_code == 204
    assert client.get("/api/studio").json()["trash"] == []


def test_only_captioned_data_is_trained_on(client: TestClient, dataset: DataSet) -> None:
    client.post("/api/studio/datasets/squares/captions", json={"op": "set", "caption": ""})
    body = {"name": "run", "dataset": "squares", "settings": {"images": 100}}
    assert code(client.post("/api/studio/runs", json=body)) == (409, "nothing_to_train_on")


@contextmanager
def serving(root: Path, folder: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """`tintype studio` as a process, and a client with its token. It is killed at the end."""
    command = [sys.executable, "-m", "tintype", "studio", "--port", "0", "--root", str(root)]
    with log.open("wb") as output:
        server = subprocess.Popen([*command, "--studio-folder", str(folder)], stderr=output)
    try:
        until(lambda: b"token=" in log.read_bytes(), 120)
        link = next(line for line in log.read_text().splitlines() if "token=" in line).split()[-1]
        address, _, token = link.partition("/studio?token=")
        with httpx.Client(base_url=address, headers={HEADER: token}, trust_env=False, timeout=60) as client:
            until(lambda: client.get("/health").status_code == 200, 120)
            yield server, client
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_training_outlives_a_killed_server_and_goes_on(root: Path, tmp_path: Path) -> None:
    """From a folder to a model: the server is killed while it trains, the next one finds the run and pauses it, and
    what it resumes becomes a finished model."""
    folder = tmp_path / "studio"
    run = "/api/studio/runs/run"
    with serving(root, folder, tmp_path / "first.log") as (server, client):
        made = client.post("/api/studio/datasets", json={"name": "Squares", "folder": "Pictures/squares"}).json()
        until(lambda: client.get(f"/api/studio/tasks/{made['task']['id']}").json()["state"] == "done", 120)
        assert client.get("/api/studio/datasets/squares/verdict").json()["usable"] == 4
        settings = {"images": 1500, "size": 32, "threads": 1, "batch_size": 8, "save_every": "1s", "text": "learned"}
        body = {"name": "Run", "dataset": "squares", "settings": settings}
        assert client.post("/api/studio/runs", json=body).status_code == 201
        until(lambda: client.get(run).json()["state"] == "running", 120)
        pid = json.loads((folder / "jobs" / "run.json").read_text())["pid"]
        server.send_signal(signal.SIGKILL)
        server.wait()
    assert started_at(pid)
    with serving(root, folder, tmp_path / "second.log") as (_, client):
        assert client.get(run).json()["state"] == "running"
        assert client.post(f"{run}/pause", json={}).json()["state"] == "pausing"
        until(lambda: client.get(run).json()["state"] == "paused", 120)
        assert not started_at(pid)
        assert client.post(f"{run}/resume", json={}).status_code == 200
        until(lambda: client.get(run).json()["state"] == "finished", 300)
        until(lambda: client.get(run).json()["model"])
        assert client.get("/api/runs/run").json()["finished"] is True
        assert client.post(f"{run}/extend", json={"images": 1700}).json()["state"] in ("preparing", "running")
        until(lambda: client.get(run).json()["state"] == "finished", 300)
        assert client.get(run).json()["images_seen"] >= 1700
