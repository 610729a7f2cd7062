"""Routes of the token models: a stream of tokens, given ones, another caption half way, limits, and the codebook."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from PIL import Image
from tests.serving.conftest import Live
from tests.tokens.conftest import tiny_token_model

from tintype.serving.catalog import Catalog
from tintype.serving.engine.metrics import Metrics
from tintype.serving.engine.queue import Rejected
from tintype.serving.engine.writing import Writing, Writings
from tintype.serving.settings import Settings
from tintype.serving.writers import Writers
from tintype.tokens import store
from tintype.tokens.writer import TokenWriter


@pytest.fixture(scope="module")
def tokens_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-tokens"
    folder.mkdir()
    store.write(folder, tiny_token_model())
    return folder


@pytest.fixture(scope="module")
def token_server(tiny_model: Path, tokens_folder: Path) -> Iterator[Live]:
    server = Live(Catalog([tiny_model], "cpu"), Settings(max_batch=16), Writers([tokens_folder], "cpu"))
    server.ready()
    yield server
    server.stop()


@pytest.fixture
def client(token_server: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=token_server.url, timeout=30, trust_env=False) as client:
        yield client


def written(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    response = client.post("/api/tokens/stream", json={"prompt": "a red circle", "model": "tiny-tokens", **body})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def test_a_stream_has_every_token_and_the_picture(client: httpx.Client, tokens_folder: Path) -> None:
    start, *tokens, done = written(client, seed=3, alternatives=2)
    assert (start["total"], start["rows"], start["columns"], start["patch"], start["seed"]) == (16, 4, 4, 2, 3)
    assert [event["place"] for event in tokens] == list(range(16))
    assert all(len(event["alternatives"]) == 2 and 0 < event["probability"] <= 1 for event in tokens)
    assert done["tokens"] == [event["token"] for event in tokens]
    assert done["bits"] == pytest.approx(sum(event["bits"] for event in tokens), abs=0.01)
    writer = TokenWriter.load(tokens_folder, "cpu")
    expected = writer.tokens(writer.request("a red circle", seeds=3))
    assert done["tokens"] == expected[0].tolist()
    content = base64.b64decode(done["image"].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(content)).tobytes() == writer.pictures(expected)[0].tobytes()


def test_given_tokens_and_another_caption(client: httpx.Client) -> None:
    whole = written(client, seed=3)[-1]["tokens"]
    changed = [*whole[:5], (whole[5] + 1) % 24]
    _, *tokens, done = written(client, seed=3, tokens=changed)
    assert done["tokens"][:6] == changed
    assert [event["given"] for event in tokens] == [True] * 6 + [False] * 10
    assert written(client, seed=3, tokens=[None] * 15 + [7])[-1]["tokens"] == [*whole[:15], 7]
    switched = written(client, seed=3, switch_at=8, switch_prompt="a blue square")[-1]["tokens"]
    assert switched[:8] == whole[:8]


def test_models_and_codebook(client: httpx.Client) -> None:
    model = client.get("/api/tokens").json()["models"][0]
    assert (model["name"], model["codes"], model["rows"]) == ("tiny-tokens", 24, 4)
    sheet = client.get(model["codebook"])
    picture = Image.open(io.BytesIO(sheet.content))
    codes = tiny_token_model().codebook.codes
    assert picture.size == (128, 2)
    assert picture.getpixel((2 * 9, 0)) == tuple(codes[9].reshape(3, 2, 2)[:, 0, 0].tolist())


def test_a_picture_becomes_tokens(client: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 30, 60)).save(buffer, "PNG")
    body = {"image": base64.b64encode(buffer.getvalue()).decode(), "model": "tiny-tokens"}
    answer = client.post("/api/tokens/encode", json=body).json()
    assert len(set(answer["tokens"])) == 1
    assert len(answer["tokens"]) == 16
    assert answer["psnr"] < 40
    assert client.post("/api/tokens/encode", json={**body, "image": "no"}).json()["error"]["param"] == "image"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tokens": [24]}, "tokens"),
        ({"tokens": [0] * 17}, "tokens"),
        ({"tokens": [0.5]}, "tokens"),
        ({"temperature": 9}, "temperature"),
        ({"switch_at": 3}, "switch_at"),
        ({"switch_at": 16, "switch_prompt": "a"}, "switch_at"),
        ({"top_k": 25}, "top_k"),
        ({"prompt": 3}, "prompt"),
        ({"steps": 4}, "steps"),
    ],
)
def test_bad_bodies_are_refused_by_field(client: httpx.Client, body: dict[str, Any], param: str) -> None:
    response = client.post("/api/tokens/stream", json={"prompt": "a", "model": "tiny-tokens", **body})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_unknown_and_diffusion_models_are_refused(client: httpx.Client) -> None:
    for name in ("nothing", "tiny"):
        response = client.post("/api/tokens/stream", json={"prompt": "a", "model": name})
        assert response.status_code == 404
        assert "unknown token model" in response.json()["error"]["message"]
        assert client.get(f"/api/tokens/{name}/codebook.png").status_code == 404


def test_diffusion_goes_on_while_pictures_are_written(client: httpx.Client) -> None:
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(len(written(client, seed=1)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert client.post("/v1/images/generations", json={"prompt": "a", "steps": 4}).status_code == 200
    for thread in threads:
        thread.join(30)
    assert results == [18] * 4


@pytest.fixture
def writer() -> TokenWriter:
    return TokenWriter(tiny_token_model(), "tiny")


def writing_of(writer: TokenWriter, owner: str = "a", seconds: float = 60) -> Writing:
    return Writing(writer, writer.request("a red circle"), owner=owner, seconds=seconds)


def test_pictures_take_turns_and_a_cancelled_one_stops(writer: TokenWriter) -> None:
    writings = Writings(Settings(), Metrics())
    first, second = writing_of(writer), writing_of(writer)
    writings.put(first)
    writings.turn()
    writings.put(second)
    for _ in range(3):
        writings.turn()
    assert (len(first.steps), len(second.steps)) == (4, 3)
    second.cancelled.set()
    for _ in range(20):
        writings.turn()
    assert (first.status, second.status, len(second.steps), len(writings)) == ("done", "cancelled", 3, 0)
    assert first.tokens.shape == (1, 16)


def test_limits_deadlines_and_faults_end_only_the_picture_concerned(
    writer: TokenWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    writings = Writings(Settings(api_keys=("secret-key",), max_open_per_key=2, max_waiting=3), Metrics())
    late, broken, good = writing_of(writer, "a", 0), writing_of(writer, "a"), writing_of(writer, "b")
    for writing in (late, broken, good):
        if writing is good:
            with pytest.raises(Rejected, match="this key has 2 open requests"):
                writings.put(writing_of(writer, "a"))
        writings.put(writing)
    with pytest.raises(Rejected, match="3 pictures are being written"):
        writings.put(writing_of(writer, "c"))
    monkeypatch.setattr(broken, "request", None)
    with torch.no_grad():
        while len(writings):
            writings.turn()
    assert (late.status, late.reason) == ("failed", "deadline")
    assert (broken.status, broken.reason) == ("failed", "error")
    assert "server's log" in broken.message
    assert good.status == "done"
