"""Models, noise levels and receipts over HTTP."""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tests.serving.api.test_jobs import data_url, finished, submit

from tintype.pipeline.pipeline import Pipeline


def test_the_page_learns_what_it_can_ask_for(http: httpx.Client) -> None:
    found = http.get("/api/models").json()
    assert found["models"][0]["name"] == "tiny"
    assert (found["models"][0]["steps"], found["models"][0]["patch"]) == (4, 4)
    assert (found["models"][0]["examples"], found["models"][0]["noise_error"]) == ([], {})
    assert "unipc" in found["samplers"]
    assert found["models"][0]["schedule"] in found["schedules"]


def test_looking_at_a_picture_shows_its_noise_and_the_models_error(http: httpx.Client, tiny_model: Path) -> None:
    ask = {"image": data_url(Image.new("RGB", (20, 20), "orange")), "prompt": "a", "levels": 6, "seed": 3}
    found = http.post("/api/look", json=ask).json()["levels"]
    config = Pipeline.load(tiny_model, "cpu").config
    sigmas = [level["sigma"] for level in found]
    assert sigmas == sorted(sigmas)
    assert sigmas[0] == pytest.approx(config.noise.sigma_min)
    assert sigmas[-1] == pytest.approx(config.noise.sigma_max)
    assert all(level["noise_error"] > 0 for level in found)
    strip = Image.open(io.BytesIO(base64.b64decode(found[0]["strip"].partition(",")[2])))
    assert strip.size == (4 * 16, 16)
    clear = np.asarray(strip.crop((0, 0, 16, 16)), dtype=int)
    assert np.abs(clear - np.array([255, 165, 0])).max() < 16  # the least noise leaves the picture as it is


def test_a_receipt_is_read_back(http: httpx.Client) -> None:
    last = finished(http, submit(http, seed=11, steps=2)["id"])
    content = http.get(last["pictures"][0]["url"]).content
    found = http.post("/api/receipt", json={"image": base64.b64encode(content).decode()}).json()
    assert found["receipt"] == last["pictures"][0]["receipt"]
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
