"""Requests that are sent again with the same Idempotency-Key."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serving.conftest import Held, Live, held_pipeline, live, until

from tintype.serving.api import dispatcher, job_store

MAKE = "/v1/images/generations"
BODY = {"prompt": "a red circle", "steps": 4}


def post(http: httpx.Client, key: str, path: str = MAKE, **changed: Any) -> httpx.Response:
    return http.post(path, json={**BODY, **changed}, headers={"Idempotency-Key": key})


@pytest.fixture
def served(tiny_model: Path) -> Iterator[tuple[Live, Held]]:
    pipeline, held = held_pipeline(tiny_model)
    with live(tiny_model, pipeline, api_keys=("key-of-one-person", "key-of-another")) as server:
        yield server, held


def client(server: Live, key: str = "key-of-one-person") -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=server.url, timeout=30, trust_env=False, headers=headers)


def test_the_same_key_gives_the_same_picture_and_another_key_another(http: httpx.Client) -> None:
    first, again, other = post(http, "k-1"), post(http, "k-1"), post(http, "k-2")
    assert {answer.status_code for answer in (first, again, other)} == {200}
    assert first.json()["data"] == again.json()["data"]
    assert first.json()["data"][0]["seed"] != other.json()["data"][0]["seed"]


@pytest.mark.parametrize("changed", [{"prompt": "a blue square"}, {"seed": 3}, {"stream": True}])
def test_a_key_is_for_one_request(changed: dict[str, Any], http: httpx.Client) -> None:
    key = f"one-{'-'.join(changed)}"
    assert post(http, key).status_code == 200
    refused = post(http, key, **changed)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("key", ["", "x" * 256, "two words"])
def test_what_is_no_key_is_refused(key: str, http: httpx.Client) -> None:
    assert (post(http, key).status_code, post(http, key).json()["error"]["param"]) == (400, "Idempotency-Key")


def test_an_edit_sent_again_is_recognized_by_its_picture(http: httpx.Client, tiny_model: Path) -> None:
    pictures = [base64.b64decode(post(http, f"edit-{i}").json()["data"][0]["b64_json"]) for i in range(2)]

    def edit(picture: bytes) -> httpx.Response:
        files = {"image": ("a.png", picture, "image/png")}  # every form has a boundary of its own
        data = {"prompt": "a star", "steps": "4"}
        return http.post("/v1/images/edits", data=data, files=files, headers={"Idempotency-Key": "edit"})

    first, again, other = edit(pictures[0]), edit(pictures[0]), edit(pictures[1])
    assert first.json()["data"] == again.json()["data"]
    assert other.status_code == 422


def test_a_job_sent_again_is_the_same_job(http: httpx.Client) -> None:
    first, again = (post(http, "job", "/api/jobs") for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    http.delete(f"/api/jobs/{first.json()['id']}")


def test_two_at_once_are_one_work(served: tuple[Live, Held]) -> None:
    server, held = served
    held.hold()
    held.calls.clear()
    with client(server) as http, ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(post, http, "twice") for _ in range(2)]
        until(lambda: server.engine.num_running == 1)
        held.release()
        assert answers[0].result().json()["data"] == answers[1].result().json()["data"]
    assert len(held.calls) == 4
    with client(server) as http, client(server, "key-of-another") as stranger:
        assert post(http, "same").json()["data"] != post(stranger, "same").json()["data"]


def test_who_hangs_up_may_come_back(served: tuple[Live, Held], monkeypatch: pytest.MonkeyPatch) -> None:
    server, held = served
    held.hold()
    with client(server) as http:
        with pytest.raises(httpx.ReadTimeout):
            http.post(MAKE, json=BODY, headers={"Idempotency-Key": "back"}, timeout=0.3)
        running = server.engine._running[0].job
        with ThreadPoolExecutor(1) as pool:
            again = pool.submit(post, http, "back")
            held.release()
            assert again.result().status_code == 200
        assert running.status == "done"
        monkeypatch.setattr(dispatcher, "GRACE_SECONDS", 0.1)
        held.hold()
        with pytest.raises(httpx.ReadTimeout):
            http.post(MAKE, json=BODY, headers={"Idempotency-Key": "never"}, timeout=0.3)
        abandoned = server.engine._running[0].job
        until(abandoned.cancelled.is_set)  # nobody came
        held.release()
        until(lambda: server.engine.num_running == 0)
        assert post(http, "never").status_code == 200  # what was given up is made anew


def test_what_failed_is_tried_again(served: tuple[Live, Held]) -> None:
    server, held = served

    def fail(*_: object) -> None:
        raise RuntimeError

    held.fault = fail
    with client(server) as http:
        assert post(http, "fails").status_code == 500
        held.fault = None
        assert post(http, "fails").status_code == 200


def test_what_is_kept_for_repetitions_is_bounded_in_bytes(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_store, "MAX_KEPT_BYTES", 8000)  # two pictures of 16 x 16 are 6144 bytes
    seeds = [post(http, f"bytes-{i}").json()["data"][0]["seed"] for i in range(5)]
    assert post(http, "bytes-4").json()["data"][0]["seed"] == seeds[4]
    assert post(http, "bytes-0").json()["data"][0]["seed"] != seeds[0]  # forgotten, so made again
