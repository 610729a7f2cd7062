"""Bad requests of every kind: keys, overload, slow, impatient and repeating clients, internal errors."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import torch
from tests.serving.abuse import MAKE, check, head
from tests.serving.conftest import Held, Live, held_pipeline, live, until

# --- 17 to 21: who may, and when ------------------------------------------------------------------------------------


def test_17_no_key_or_a_wrong_one(tiny_model: Path) -> None:
    with live(tiny_model, api_keys=("right-key-1", "right-key-2")) as server:
        with httpx.Client(base_url=server.url, trust_env=False) as http:
            for path in ("/", "/page/app.js", "/v1/models", "/api/models", "/metrics", "/version", "/openapi.json"):
                check(http.get(path), 401)
            basic = "Basic " + base64.b64encode(b"a:b").decode()
            for wrong in ("Bearer wrong", "Bearer", "Basic !!!", basic, "right-key-1", "Bearer ''", "Bearer \u00ff"):
                answer = http.get("/v1/models", headers={"Authorization": wrong.encode("latin-1")})
                check(answer, 401)
                assert answer.headers["www-authenticate"] == "Bearer"
            assert http.get("/").headers["www-authenticate"].startswith("Basic")
            for path in ("/health", "/liveness"):
                assert http.get(path).status_code == 200
            for key in ("right-key-1", "right-key-2"):
                assert http.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_18_a_key_without_the_right(tiny_model: Path) -> None:
    """There are no administrators here: what a key has no right to are the jobs of another."""
    with live(tiny_model, api_keys=("right-key-1", "right-key-2")) as server:
        headers_1, headers_2 = ({"Authorization": f"Bearer right-key-{num}"} for num in (1, 2))
        with httpx.Client(base_url=server.url, trust_env=False) as http:
            job = http.post("/api/jobs", json={"prompt": "a", "steps": 1}, headers=headers_1).json()["id"]
            for path in ("", "/events", "/steps/0.png", "/pictures/0.png"):
                check(http.get(f"/api/jobs/{job}{path}", headers=headers_2), 403, code="not_yours")
            check(http.delete(f"/api/jobs/{job}", headers=headers_2), 403, code="not_yours")
            check(http.get(f"/api/jobs/{job}"), 401)
            assert http.get(f"/api/jobs/{job}", headers=headers_1).status_code == 200


FULL = {
    "places": {"max_waiting": 1},
    "cost": {"max_waiting_cost": 1.0},
    "places of a key": {"max_open_per_key": 2, "api_keys": ("a-long-key",)},
}


@pytest.mark.slow
@pytest.mark.parametrize("limit", list(FULL))
@pytest.mark.parametrize("path", [MAKE, "/api/jobs"])
def test_19_no_room(path: str, limit: str, tiny_model: Path) -> None:
    pipeline, denoiser = held_pipeline(tiny_model)
    with live(tiny_model, pipeline, **{"max_batch": 1, **FULL[limit]}) as server:
        key = {"Authorization": "Bearer a-long-key"}
        with httpx.Client(base_url=server.url, trust_env=False, headers=key, timeout=30) as http:
            denoiser.hold()
            assert http.post("/api/jobs", json={"prompt": "a"}).status_code == 202
            until(lambda: server.engine.num_running == 1)
            assert http.post("/api/jobs", json={"prompt": "a"}).status_code == 202
            answer = http.post(path, json={"prompt": "a"})
            assert check(answer, 429, code="slow_down")["type"] == "rate_limit_error"
            assert int(answer.headers["retry-after"]) >= 1
            assert http.get("/health").status_code == 200
            denoiser.release()
            until(lambda: server.engine.num_running + server.engine.num_waiting == 0)
            assert http.post(MAKE, json={"prompt": "a", "steps": 1}).status_code == 200


@pytest.fixture
def slow(tiny_model: Path) -> Iterator[tuple[Live, Held, httpx.Client]]:
    pipeline, denoiser = held_pipeline(tiny_model)
    with live(tiny_model, pipeline, max_batch=2, deadline=1.0) as server:
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as http:
            yield server, denoiser, http


def test_20_warming_up_draining_and_dead(slow: tuple[Live, Held, httpx.Client]) -> None:
    server, _, http = slow
    server.engine.ready = False
    answer = http.post(MAKE, json={"prompt": "a"})
    assert check(answer, 503)["type"] == "service_unavailable_error"
    assert int(answer.headers["retry-after"]) >= 1
    assert http.get("/health").status_code == 503
    assert http.get("/liveness").status_code == 200
    server.engine.ready = True
    server.engine.drain()
    check(http.post(MAKE, json={"prompt": "a"}), 503)
    server.engine.failure = "it broke"
    check(http.post(MAKE, json={"prompt": "a"}), 503)
    assert http.get("/health").json() == {"status": "failed", "reason": "it broke"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_20_the_engine_dies_midway(slow: tuple[Live, Held, httpx.Client]) -> None:
    server, denoiser, http = slow

    def die(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        raise SystemExit("no more")

    denoiser.fault = die
    for _ in range(2):  # the one that runs, and those that come later
        answer = http.post(MAKE, json={"prompt": "a"})
        check(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
        until(lambda: not server.engine.alive)
    assert http.get("/health").json()["status"] == "failed"
    assert http.get("/liveness").status_code == 200


@pytest.mark.slow
def test_21_a_deadline_passes(slow: tuple[Live, Held, httpx.Client]) -> None:
    server, denoiser, http = slow
    denoiser.hold()
    threading.Timer(1.2, denoiser.allow, (3,)).start()
    waiting = http.post("/api/jobs", json={"prompt": "a", "n": 3}).json()["id"]
    answer = http.post(MAKE, json={"prompt": "a"})
    check(answer, 504, code="timeout")
    assert int(answer.headers["retry-after"]) >= 1
    until(lambda: server.engine.num_running == 0)
    assert http.get(f"/api/jobs/{waiting}").json()["error"]["code"] == "timeout"


# --- 22 and 23: clients that leave or dawdle ------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_22_a_client_that_hangs_up(stream: bool, tiny_model: Path) -> None:
    pipeline, denoiser = held_pipeline(tiny_model)
    with live(tiny_model, pipeline) as server:
        denoiser.hold()
        body = json.dumps({"prompt": "a", "steps": 100, "stream": stream}).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as plug:
            plug.sendall(head(MAKE, len(body)) + body)
            until(lambda: server.engine.num_running == 1)
        until(lambda: any(open_.job.cancelled.is_set() for open_ in list(server.engine._running)))
        denoiser.allow(1)
        until(lambda: server.engine.num_running == 0)
        assert len(denoiser.calls) <= 2
        denoiser.release()
        metrics = httpx.get(f"{server.url}/metrics", trust_env=False).text
        assert 'tintype_requests_cancelled_total{phase="running"} 1.0' in metrics


def test_23_a_body_that_never_comes(tiny_model: Path) -> None:
    with live(tiny_model, body_seconds=0.3) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as plug:
            plug.sendall(head(MAKE, 99) + b'{"prompt"')
            plug.settimeout(20)
            assert plug.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.slow
def test_23_a_head_that_never_comes(tiny_model: Path) -> None:
    with live(tiny_model, head_seconds=0.3) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as plug:
            plug.settimeout(20)
            assert plug.recv(100) == b""  # nothing was asked: nothing is said
        with httpx.Client(base_url=server.url, trust_env=False) as http:
            assert http.get("/liveness").status_code == 200
            with socket.create_connection(("127.0.0.1", server.port)) as plug:
                for _ in range(2):  # the second time on a connection that has been used
                    plug.sendall(b"GET /liveness HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    response = b""
                    while b"alive" not in response:
                        response += plug.recv(2000)
                    assert response.startswith(b"HTTP/1.1 200")
                plug.sendall(b"GET /liveness HTTP/1.1\r\nHost: loc")
                plug.settimeout(20)
                response = plug.recv(2000)
                assert response.startswith(b"HTTP/1.1 408")
                assert json.loads(response.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"


# --- 27: one request fails ------------------------------------------------------------------------------------------


def no_memory(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def a_bug(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    raise ValueError("secret details")


def no_numbers(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return x * float("nan")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [(no_memory, 503, "out_of_memory"), (a_bug, 500, "generation_failed"), (no_numbers, 500, "generation_failed")],
)
def test_27_no_memory_a_bug_and_no_numbers(
    fault: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], status: int, code: str, tiny_model: Path
) -> None:
    pipeline, denoiser = held_pipeline(tiny_model)
    with live(tiny_model, pipeline) as server, httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http:
        denoiser.fault = fault
        answer = http.post(MAKE, json={"prompt": "a"})
        error = check(answer, status, code=code)
        assert "secret" not in error["message"]
        # What will fail again says so; for lack of memory it says when to come back.
        assert answer.headers.get("x-should-retry") == (None if fault is no_memory else "false")
        assert ("retry-after" in answer.headers) == (fault is no_memory)
        denoiser.fault = None
        assert http.post(MAKE, json={"prompt": "a", "steps": 1}).status_code == 200


# --- 32 and 33: habits of clients -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_32_a_client_that_asks_again_and_again(tiny_model: Path) -> None:
    """Without a key every disconnect cancels; with one all requests share a job (see api/test_idempotency)."""
    pipeline, denoiser = held_pipeline(tiny_model)
    with live(tiny_model, pipeline, max_batch=4) as server:
        denoiser.hold()
        for _ in range(3):
            with (
                httpx.Client(base_url=server.url, trust_env=False, timeout=0.2) as http,
                pytest.raises(httpx.ReadTimeout),
            ):
                http.post(MAKE, json={"prompt": "a", "steps": 50})
        until(lambda: (denoiser.allow(1), server.engine.num_running == 0)[1])
        assert len(denoiser.calls) < 50
        denoiser.calls.clear()
        denoiser.hold()
        key = {"Idempotency-Key": "storm"}
        for _ in range(3):
            with (
                httpx.Client(base_url=server.url, trust_env=False, timeout=0.2) as http,
                pytest.raises(httpx.ReadTimeout),
            ):
                http.post(MAKE, json={"prompt": "a", "steps": 5}, headers=key)
        assert server.engine.num_running + server.engine.num_waiting == 1
        denoiser.release()
        answer = httpx.post(f"{server.url}{MAKE}", json={"prompt": "a", "steps": 5}, headers=key, trust_env=False)
        assert answer.status_code == 200
        assert len(denoiser.calls) <= 6


@pytest.mark.slow
def test_33_a_preview_of_every_step_for_a_reader_who_does_not_read(tiny_model: Path) -> None:
    pipeline, denoiser = held_pipeline(tiny_model)
    check_ = {"prompt": "a", "steps": 60, "stream": True, "preview_every": 1}
    with live(tiny_model, pipeline) as server:
        body = json.dumps(check_).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as plug:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            plug.sendall(head(MAKE, len(body)) + body)
            until(lambda: len(denoiser.calls) >= 60)  # the sampler was not held up
            until(lambda: server.engine.num_running == 0)
            time.sleep(0.05)
    with live(tiny_model) as server:
        answer = httpx.post(f"{server.url}{MAKE}", json={**check_, "partial_images": 10**9}, trust_env=False)
        assert check(answer, 400)["param"] == "partial_images"
