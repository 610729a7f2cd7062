"""Models, noise levels and receipts over HTTP."""

from __future__ import annotations

import base64
import gc
import io
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tests.serving.api.test_jobs import data_url, finished, submit
from tests.serving.conftest import Held, Live, held_pipeline, live, until

from tintype.pipeline.pipeline import Pipeline
from tintype.serving.api.schemas import NoiseLevelsBody


def test_the_page_learns_what_it_can_ask_for(http: httpx.Client) -> None:
    answer = http.get("/api/models").json()
    assert answer["models"][0]["name"] == "tiny"
    assert (answer["models"][0]["steps"], answer["models"][0]["patch"]) == (4, 4)
    assert (answer["models"][0]["examples"], answer["models"][0]["noise_error"]) == ([], {})
    assert "unipc" in answer["samplers"]
    assert answer["models"][0]["schedule"] in answer["schedules"]


def test_looking_at_a_picture_shows_its_noise_and_the_models_error(http: httpx.Client, tiny_model: Path) -> None:
    ask = {"image": data_url(Image.new("RGB", (20, 20), "orange")), "prompt": "a", "levels": 6, "seed": 3}
    levels = http.post("/api/look", json=ask).json()["levels"]
    config = Pipeline.load(tiny_model, "cpu").config
    sigmas = [level["sigma"] for level in levels]
    assert sigmas == sorted(sigmas)
    assert sigmas[0] == pytest.approx(config.noise.sigma_min)
    assert sigmas[-1] == pytest.approx(config.noise.sigma_max)
    assert all(level["noise_error"] > 0 for level in levels)
    strip = Image.open(io.BytesIO(base64.b64decode(levels[0]["strip"].partition(",")[2])))
    assert strip.size == (4 * 16, 16)
    clear = np.asarray(strip.crop((0, 0, 16, 16)), dtype=int)
    assert np.abs(clear - np.array([255, 165, 0])).max() < 16  # the least noise leaves the picture as it is


def test_looking_at_a_picture_keeps_its_shape(http: httpx.Client) -> None:
    picture = Image.new("RGB", (100, 60), "orange")
    picture.paste("blue", (0, 0, 5, 60))
    picture.paste("blue", (95, 0, 100, 60))
    body = {"image": data_url(picture), "prompt": "a", "levels": 2}
    levels = http.post("/api/look", json=body).json()["levels"]
    strip = Image.open(io.BytesIO(base64.b64decode(levels[0]["strip"].partition(",")[2])))
    assert strip.size == (4 * 20, 12)  # at most as many pixels as 16 x 16
    clear = np.asarray(strip.crop((0, 0, 20, 12)), dtype=int)
    assert (clear[:, [0, 19], 2] > clear[:, [0, 19], 0]).all()  # the edges are not cut off


def test_a_receipt_is_read_back(http: httpx.Client) -> None:
    last = finished(http, submit(http, seed=11, steps=2)["id"])
    content = http.get(last["pictures"][0]["url"]).content
    answer = http.post("/api/receipt", json={"image": base64.b64encode(content).decode()}).json()
    assert answer["receipt"] == last["pictures"][0]["receipt"]
    none = http.post("/api/receipt", json={"image": data_url(Image.new("RGB", (4, 4)))}).json()
    assert none["receipt"] is None


@pytest.mark.parametrize(
    ("name", "value"), [("guidance", math.nan), ("seed", 10**400), ("caption", ["a"]), ("outpaint", 4)]
)
def test_an_odd_receipt_is_none(name: str, value: object, http: httpx.Client) -> None:
    last = finished(http, submit(http, seed=11, steps=1)["id"])
    receipt = {**last["pictures"][0]["receipt"], "seed": 11, "format": 1}
    for odd in ({}, {name: value}):
        info = PngInfo()
        info.add_text("tintype", json.dumps({**receipt, **odd}))
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4)).save(buffer, "PNG", pnginfo=info)
        body = {"image": base64.b64encode(buffer.getvalue()).decode()}
        answer = http.post("/api/receipt", json=body)
        assert answer.status_code == 200
        assert (answer.json()["receipt"] is None) == bool(odd)


@pytest.fixture
def busy(tiny_model: Path) -> Iterator[tuple[Live, Held, httpx.Client]]:
    """A server whose engine is held in a job."""
    pipeline, denoiser = held_pipeline(tiny_model)
    with live(tiny_model, pipeline, max_batch=2) as server:
        denoiser.hold()
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as http:
            submit(http, steps=2)
            until(lambda: server.engine.num_running == 1)
            yield server, denoiser, http


def test_waiting_requests_keep_neither_their_bodies_nor_their_uploads(busy: tuple[Live, Held, httpx.Client]) -> None:
    server, denoiser, http = busy
    buffer = io.BytesIO()
    large = Image.new("RGB", (611, 509), "orange")
    large.save(buffer, "PNG")
    files = {"image": ("a.png", buffer.getvalue(), "image/png")}
    with ThreadPoolExecutor(2) as pool:
        look = pool.submit(http.post, "/api/look", json={"image": data_url(large), "levels": 2})
        edit = pool.submit(http.post, "/v1/images/edits", data={"prompt": "a"}, files=files)
        until(lambda: server.engine.num_waiting == 2)
        large.close()

        def uploads() -> list[object]:
            """Bodies and images of uploads that something holds, such as, for a moment, the thread that decoded one."""
            gc.collect()
            images = [value for value in gc.get_objects() if isinstance(value, (Image.Image, NoiseLevelsBody))]
            return [value for value in images if isinstance(value, NoiseLevelsBody) or value.size == (611, 509)]

        until(lambda: [value is large for value in uploads()] == [True])
        denoiser.release()
        assert [look.result().status_code, edit.result().status_code] == [200, 200]


def test_a_noise_sweep_ends_with_its_client(busy: tuple[Live, Held, httpx.Client]) -> None:
    server, _, http = busy
    with pytest.raises(httpx.ReadTimeout):
        http.post("/api/look", json={"image": data_url(Image.new("RGB", (16, 16)))}, timeout=0.5)
    until(lambda: server.engine.num_waiting == 0, 5)
    assert server.engine.num_running == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "image"), ({"image": 3}, "image"), ({"image": "x", "levels": 1}, "levels"), ([], None)],
)
def test_a_wrong_noise_sweep_is_refused_by_field(body: object, param: str | None, http: httpx.Client) -> None:
    refused = http.post("/api/look", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("content", [b'{"image": ', b"", b'"\xff"'])
def test_a_noise_sweep_that_is_not_json_is_refused(content: bytes, http: httpx.Client) -> None:
    refused = http.post("/api/look", content=content, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_json")
