"""A run in the page: what it shows while training goes on, and pictures from its newest checkpoint."""

from __future__ import annotations

import datetime
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from safetensors.torch import load_file, save_file
from tests.serving.conftest import live

from tintype.config import Config, DistillConfig
from tintype.errors import CheckpointError, ConfigError
from tintype.model import checkpoint
from tintype.pipeline.pipeline import Pipeline
from tintype.serving.catalog import Catalog


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Path:
    """A run folder that has logged and sampled, but not saved a checkpoint yet."""
    folder = tmp_path / "my-run"
    (folder / "samples").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(tiny_model / name, folder)
    now = datetime.datetime.now(datetime.UTC)
    rows = [
        {
            "images_seen": 100 * i,
            "loss": 1 / i if i != 5 else None,
            "images_per_second": 50.0,
            "time": (now - datetime.timedelta(seconds=10 * (900 - i))).isoformat(),
            **({"noise_error": {"0.3": 0.5 / i, "1": 0.2 / i}} if i % 100 == 0 else {}),
        }
        for i in range(1, 901)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "data.json").write_text("{}")
    (folder / "samples" / "seen-000000100.png").write_bytes(b"\x89PNG early")
    (folder / "samples" / "seen-000090000.png").write_bytes(b"\x89PNG late")
    (folder / "samples" / "captions.txt").write_text("a red circle\na\n")
    return folder


def save(run: Path, tiny_model: Path, step: int) -> None:
    weights = {
        name: tensor.float() + step / 1000 for name, tensor in load_file(tiny_model / "model.safetensors").items()
    }
    texts = {name: (tiny_model / name).read_text() for name in ("config.json", "tokenizer.json")}
    checkpoint.save_parts(checkpoint.step_folder(run, step), {"model": weights}, texts)


def test_a_run_is_shown_while_it_trains(run: Path, tiny_model: Path) -> None:
    with live_of(run, tiny_model) as http:
        assert http.get("/api/runs").json() == {"runs": ["my-run"]}
        found = http.get("/api/runs/my-run").json()
        assert (found["images_seen"], found["images"], found["finished"]) == (90_000, 500_000, False)
        assert found["seconds_left"] == pytest.approx(410_000 / 50)
        assert 0 <= found["seconds_since"] < 60
        assert len(found["loss"]) <= 401
        assert found["loss"][-1] == [90_000, 1 / 900]
        assert [row["images_seen"] for row in found["noise_error"]] == [10_000 * i for i in range(1, 10)]
        assert found["samples"][-1] == {"images_seen": 90_000, "file": "seen-000090000.png"}
        assert http.get("/api/runs/my-run/samples/seen-000090000.png").content == b"\x89PNG late"
        assert http.get("/api/runs/my-run/samples/captions.txt").status_code == 404
        assert http.get("/api/runs/tiny").status_code == 404
        assert found["can_generate"] is False
        assert http.post("/api/jobs", json={"prompt": "a", "model": "my-run"}).status_code == 404


def live_of(run: Path, tiny_model: Path) -> httpx.Client:
    """Without a socket: none of this needs one."""
    from fastapi.testclient import TestClient

    from tintype.serving.api.app import create_app
    from tintype.serving.settings import Settings

    app, _ = create_app(Catalog([tiny_model, run], "cpu"), Settings(max_batch=4))
    return TestClient(app, base_url="http://localhost")  # type: ignore[return-value]


def test_the_newest_checkpoint_is_served_as_soon_as_it_is_there(run: Path, tiny_model: Path) -> None:
    catalog = Catalog([run], "cpu")
    assert catalog.pipelines == {}
    assert catalog.refresh() == []
    hashes = []
    for step in (1, 2):
        save(run, tiny_model, step)
        assert catalog.refresh() == ["my-run"]
        assert catalog.refresh() == []
        hashes.append(catalog.pipelines["my-run"].model_hash)
        assert catalog.examples("my-run") == ("a", "a red circle")
    assert len(set(hashes)) == 2
    shutil.rmtree(checkpoint.step_folder(run, 1))
    (checkpoint.step_folder(run, 2) / "model.safetensors").write_bytes(b"being written")
    assert catalog.refresh() == []
    assert catalog.pipelines["my-run"].model_hash == hashes[1]


def test_the_shipped_model_says_what_to_try_and_how_well_it_sees_noise() -> None:
    catalog = Catalog(["shapes"], "cpu")
    assert len(catalog.examples("shapes")) == 4
    assert catalog.examples("shapes")[0] == "a red circle left of a blue square"  # in the order they were chosen in
    errors = catalog.noise_error("shapes")
    assert errors == {"0.1": 0.0398, "0.3": 0.0062, "1": 0.0022, "3": 0.0011, "10": 0.0002}


def test_the_errors_of_a_finished_model_come_from_its_evaluation(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(tiny_model, folder)
    evaluation = folder / "evaluation.json"
    evaluation.write_text(json.dumps({"images_seen": 8, "noise_error": {"0.3": 0.25, "10": 0.0125}}))
    assert Catalog([folder], "cpu").noise_error("mine") == {"0.3": 0.25, "10": 0.0125}
    config = Config.from_json((folder / "config.json").read_text())
    student = replace(config, distill=DistillConfig(teacher="t", steps=2))
    (folder / "config.json").write_text(student.to_json())
    assert Catalog([folder], "cpu").noise_error("mine") == {}


@pytest.mark.parametrize("content", ["", "[", "[]", "{}", '{"noise_error": null}', '{"noise_error": {"1": "x"}}'])
def test_an_evaluation_that_cannot_be_read_is_no_error(content: str, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "mine")
    (tmp_path / "mine" / "evaluation.json").write_text(content)
    assert Catalog([tmp_path / "mine"], "cpu").noise_error("mine") == {}


def test_the_errors_of_a_run_come_from_its_log(run: Path, tiny_model: Path) -> None:
    save(run, tiny_model, 1)
    assert Catalog([run], "cpu").noise_error("my-run") == {"0.3": 0.5 / 900, "1": 0.2 / 900}


def test_loading_leaves_no_thread_of_openmp_behind(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads live as long as the one that loaded, and slow down the one that makes pictures."""
    loaded_by = list[threading.Thread]()

    def load(*asked: str | Path | None) -> Pipeline:
        loaded_by.append(threading.current_thread())
        return original(*asked)

    original = Pipeline.load
    monkeypatch.setattr(Pipeline, "load", load)
    assert Catalog([tiny_model], "cpu").pipelines
    assert [thread.is_alive() for thread in loaded_by] == [False]


def test_a_run_without_a_checkpoint_says_so(run: Path) -> None:
    with live(run) as server:
        answer = httpx.post(f"{server.url}/v1/images/generations", json={"prompt": "a"}, trust_env=False)
        assert answer.status_code == 503
        assert "checkpoint" in answer.json()["error"]["message"]


def test_what_cannot_be_served_is_said_before_anything_listens(tiny_model: Path, tmp_path: Path, run: Path) -> None:
    with pytest.raises(CheckpointError, match="no model"):
        Catalog(["nothing-here"], "cpu")
    shutil.copytree(tiny_model, tmp_path / "twin" / "tiny")
    with pytest.raises(ConfigError, match="tiny"):
        Catalog([tiny_model, tmp_path / "twin" / "tiny"], "cpu")
    weights = load_file(tiny_model / "model.safetensors")
    save_file({"wrong": next(iter(weights.values()))}, tmp_path / "twin" / "tiny" / "model.safetensors")
    with pytest.raises(CheckpointError):
        Catalog([tmp_path / "twin" / "tiny"], "cpu")
    save(run, tiny_model, 1)
    (checkpoint.step_folder(run, 1) / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError):
        Catalog([run], "cpu")
