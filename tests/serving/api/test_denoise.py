"""One call of the network over HTTP: numbers in, numbers out."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.serving.api.test_jobs import submit
from tests.serving.conftest import Held, Live, held_pipeline, live, until

from tintype.diffusion.noise import normal
from tintype.pipeline.pipeline import Pipeline

SIDE = 16


def encoded(x: torch.Tensor) -> str:
    return base64.b64encode(x.numpy().astype("<f4").tobytes()).decode()


def decoded(answer: dict[str, Any]) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(answer["denoised"]), "<f4").reshape(answer["shape"])


def noisy(num: int = 1) -> torch.Tensor:
    return 2.0 * normal(5, 0, torch.arange(num), (3, SIDE, SIDE))


def body(x: torch.Tensor, *prompts: str, **fields: Any) -> dict[str, Any]:
    return {"x": encoded(x), "width": SIDE, "height": SIDE, "sigma": 2.0, "prompts": prompts or ("a",), **fields}


def expected(tiny_model: Path, x: torch.Tensor, prompts: list[str], sigma: float = 2.0) -> NDArray[np.float32]:
    pipeline = Pipeline.load(tiny_model, "cpu")
    with torch.no_grad():
        cond = pipeline.encode(prompts)
        x = x.expand(len(prompts), -1, -1, -1)
        return pipeline.denoiser(x, torch.full((len(x),), sigma), cond).numpy()


def test_the_answer_is_the_networks_own_prediction(http: httpx.Client, tiny_model: Path) -> None:
    captions = ["a red circle", "a blue square left of a green star", ""]
    one = http.post("/api/denoise", json=body(noisy(), *captions)).json()
    assert one["shape"] == [3, 3, SIDE, SIDE]
    assert one["model"] == "tiny"
    np.testing.assert_allclose(decoded(one), expected(tiny_model, noisy(), captions), atol=1e-5)
    each = http.post("/api/denoise", json=body(noisy(3), *captions)).json()
    np.testing.assert_allclose(decoded(each), expected(tiny_model, noisy(3), captions), atol=1e-5)
    assert np.abs(decoded(one)[0] - decoded(one)[1]).max() > 1e-3  # captions matter


def test_any_shape_that_the_model_takes(http: httpx.Client, tiny_model: Path) -> None:
    x = 2.0 * normal(5, 0, 0, (3, 8, 20))
    answer = http.post("/api/denoise", json=body(x, width=20, height=8)).json()
    np.testing.assert_allclose(decoded(answer), expected(tiny_model, x, ["a"]), atol=1e-5)


def test_a_caption_that_is_cut_is_noted(http: httpx.Client) -> None:
    assert "warning" not in http.post("/api/denoise", json=body(noisy())).json()
    assert "longer" in http.post("/api/denoise", json=body(noisy(), "a red circle " * 40)).json()["warning"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"x": "?"}, "x"),
        ({"x": encoded(noisy(2))}, "x"),
        ({"x": encoded(noisy() * float("nan"))}, "x"),
        ({"x": encoded(noisy() * 1e30)}, "x"),
        ({"x": ""}, "x"),
        ({"sigma": 0}, "sigma"),
        ({"sigma": True}, "sigma"),
        ({"width": 18}, "width"),
        ({"width": 2048, "height": 2048}, "width"),
        ({"prompts": []}, "prompts"),
        ({"prompts": ["a"] * 11}, "prompts"),
        ({"prompts": "a"}, "prompts"),
        ({"model": "none"}, "model"),
    ],
)
def test_what_is_wrong_is_refused_by_field(fields: dict[str, Any], param: str, http: httpx.Client) -> None:
    refused = http.post("/api/denoise", json={**body(noisy()), **fields})
    assert refused.status_code in (400, 404)
    assert refused.json()["error"]["param"].split(".")[0] == param


@pytest.fixture
def busy(tiny_model: Path) -> Iterator[tuple[Live, Held, httpx.Client]]:
    """A server with keys whose engine is held in a job of the first key."""
    pipeline, denoiser = held_pipeline(tiny_model)
    with live(tiny_model, pipeline, max_batch=2, api_keys=("first-key", "other-key"), max_open_per_key=2) as server:
        denoiser.hold()
        headers = {"Authorization": "Bearer first-key"}
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False, headers=headers) as http:
            submit(http, steps=2)
            until(lambda: server.engine.num_running == 1)
            yield server, denoiser, http


def test_it_waits_its_turn_and_ends_with_its_client(busy: tuple[Live, Held, httpx.Client]) -> None:
    server, _, http = busy
    with pytest.raises(httpx.ReadTimeout):
        http.post("/api/denoise", json=body(noisy()), timeout=0.5)
    until(lambda: server.engine.num_waiting == 0, 5)
    assert server.engine.num_running == 1


def test_it_counts_for_its_key_and_needs_one(busy: tuple[Live, Held, httpx.Client]) -> None:
    _, denoiser, http = busy
    assert httpx.post(f"{http.base_url}/api/denoise", json=body(noisy()), trust_env=False).status_code == 401
    submit(http, steps=2)  # with the one that runs, as many as a key may have
    assert http.post("/api/denoise", json=body(noisy())).status_code == 429
    denoiser.release()


def test_a_large_x_that_does_not_fit_leaves_the_server_well(http: httpx.Client) -> None:
    refused = http.post("/api/denoise", json={**body(noisy()), "x": "A" * (8 * 2**20 - 400)})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "x")
    assert http.post("/api/denoise", json=body(noisy())).status_code == 200
