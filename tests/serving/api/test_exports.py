"""Exports over HTTP: a file to give away, one at a time, for those who may have the model."""

from __future__ import annotations

import io
import json
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request
from tests.serving.conftest import live

from tintype.export.record import read_record
from tintype.export.target import GENERATOR
from tintype.model import store
from tintype.serving import exporter
from tintype.serving.api.exports import is_allowed
from tintype.serving.settings import Settings


def ended(http: httpx.Client, number: str) -> Any:
    end = time.monotonic() + 120
    while (state := http.get(f"/api/exports/{number}").json())["status"] == "running":
        assert time.monotonic() < end, "it did not end"
        time.sleep(0.05)
    return state


def begun(http: httpx.Client, **body: Any) -> Any:
    answer = http.post("/api/exports", json={"to": "folder", **body})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/api/exports/{answer.json()['id']}"
    return answer.json()


def left_over() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("tintype-export-*"))


@pytest.mark.slow
def test_a_folder_is_handed_out_as_a_zip_file_and_deleted_when_the_server_stops(
    tiny_model: Path, tmp_path: Path
) -> None:
    before = left_over()
    with (
        live(tiny_model) as server,
        httpx.Client(base_url=server.url, timeout=60, trust_env=False) as http,
    ):
        begin = begun(http, name="My cats: & dogs", license="MIT")
        busy = http.post("/api/exports", json={"to": "page"})
        assert (busy.status_code, busy.json()["error"]["code"]) == (429, "slow_down")
        assert http.get(f"/api/exports/{begin['id']}/file").status_code == 404
        state = ended(http, begin["id"])
        assert (state["status"], state["file"]) == ("done", "My-cats-dogs.zip")
        content = http.get(f"/api/exports/{begin['id']}/file").content
        assert len(content) == state["bytes"]
        zipfile.ZipFile(io.BytesIO(content)).extractall(tmp_path)
        record = read_record(tmp_path / "My-cats-dogs")
        assert record is not None
        assert (record.form, record.name, record.license) == ("folder", "My cats: & dogs", "MIT")
        assert str(tiny_model.parent).encode() not in content
        assert store.find(tmp_path / "My-cats-dogs")
        assert left_over() != before
    assert left_over() == before


@pytest.mark.slow
def test_a_page_is_handed_out_as_it_is_and_a_deleted_export_is_gone(http: httpx.Client) -> None:
    before = left_over()
    state = ended(http, begun(http, to="page", model="tiny")["id"])
    answer = http.get(f"/api/exports/{state['id']}/file")
    assert answer.headers["content-type"].startswith("text/html")
    assert 'filename="tiny.html"' in answer.headers["content-disposition"]
    assert GENERATOR in answer.text[:4096]
    assert http.delete(f"/api/exports/{state['id']}").status_code == 200
    assert http.get(f"/api/exports/{state['id']}").status_code == 404
    running = begun(http)
    assert http.delete(f"/api/exports/{running['id']}").json()["status"] == "cancelled"
    assert left_over() == before
    assert ended(http, begun(http)["id"])["status"] == "done"


@pytest.mark.slow
def test_what_is_wrong_with_a_model_is_said_without_places(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).write_bytes((tiny_model / name).read_bytes())
    config = json.loads((tiny_model / "config.json").read_text())
    config["sample"]["sampler"] = "heun"
    (folder / "config.json").write_text(json.dumps(config))
    with live(folder) as server, httpx.Client(base_url=server.url, timeout=60, trust_env=False) as http:
        state = ended(http, begun(http, to="page")["id"])
        assert state["status"] == "failed"
        assert state["error"].startswith("the sampler heun of this model cannot be exported")
        (folder / "model.safetensors").write_bytes(b"damaged")
        state = ended(http, begun(http)["id"])
        assert (state["status"], str(tmp_path) in state["error"]) == ("failed", False)


def test_a_late_export_is_ended(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "SECONDS", 0.05)
    state = ended(http, begun(http)["id"])
    assert (state["status"], state["error"]) == ("failed", "the export took longer than 0.05 s, and was ended")


def test_bad_requests(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "find_spec", lambda name: None)
    assert http.get("/api/exports").json() == {
        "allowed": True,
        "forms": ["folder", "diffusers", "page", "site"],
    }
    for body, param, text in (
        ({"to": "paper"}, "to", "one of folder, diffusers, onnx, page, site"),
        ({"to": "onnx"}, "to", "pip install 'tintype[onnx]'"),
        ({"to": "page", "license": "my own"}, "license", "SPDX identifier"),
        ({"to": "page", "name": "a\nb"}, "name", "printable"),
        ({"to": "page", "name": "x" * 97}, "name", "longer than 96"),
        ({}, "to", "missing"),
    ):
        answer = http.post("/api/exports", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, param)
        assert text in error["message"]
    assert http.post("/api/exports", json={"to": "page", "model": "other"}).status_code == 404
    assert http.get("/api/exports/x").json()["error"]["code"] == "export_not_found"


@pytest.mark.parametrize(
    ("settings", "address", "headers", "allowed"),
    [
        ({}, "127.0.0.1", {}, True),
        ({}, "::1", {}, True),
        ({}, "192.168.0.7", {}, False),
        ({}, "127.0.0.1", {"x-forwarded-for": "1.2.3.4"}, False),
        ({"api_keys": ("long-enough",)}, "127.0.0.1", {}, False),
        ({"allowed_hosts": ("pictures.example",)}, "127.0.0.1", {}, False),
        ({"root_path": "/tintype"}, "127.0.0.1", {}, False),
        ({"allow_export": True, "api_keys": ("long-enough",)}, "192.168.0.7", {}, True),
    ],
)
def test_only_this_machine_may_export_unless_the_server_says_otherwise(
    settings: dict[str, Any], address: str, headers: dict[str, str], allowed: bool
) -> None:
    scope = {
        "type": "http",
        "client": (address, 1),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    assert is_allowed(Settings(**settings), Request(scope)) is allowed


def test_a_client_that_may_not_export_is_told_so(tiny_model: Path) -> None:
    with live(tiny_model, root_path="/tintype") as server:
        path = f"{server.url}/tintype/api/exports"
        assert httpx.get(path, trust_env=False).json() == {"allowed": False, "forms": []}
        answer = httpx.post(path, json={"to": "page"}, trust_env=False)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "export_not_allowed")


def test_exports_belong_to_the_key_that_began_them(tiny_model: Path) -> None:
    keys = ("first-long-key", "second-long-key")
    with live(tiny_model, allow_export=True, api_keys=keys) as server:
        clients = [
            httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, trust_env=False)
            for key in keys
        ]
        number = begun(clients[0])["id"]
        assert clients[1].get(f"/api/exports/{number}").status_code == 404
        assert clients[0].delete(f"/api/exports/{number}").status_code == 200
        for client in clients:
            client.close()
