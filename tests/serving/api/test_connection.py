"""Connections: hostile and careless clients lose their place in time, and each learns why in the API's form."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.serving.abuse import JSON, MAKE, check
from tests.serving.conftest import Live, live, until

from tintype.serving.api import turns
from tintype.serving.api.turns import Turns

KEY = "a-long-key"
CHUNKED = f"POST {MAKE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
GET = b"GET /liveness HTTP/1.1\r\nHost: localhost\r\n"
LARGE = f"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()  # some 25 KB


@contextlib.contextmanager
def plug(server: Live) -> Iterator[socket.socket]:
    """A plain socket."""
    with socket.create_connection(("127.0.0.1", server.port)) as connected:
        connected.settimeout(20)
        yield connected


def read_all(connected: socket.socket) -> bytes:
    """Everything until the server closes."""
    response = b""
    while part := connected.recv(2**16):
        response += part
    return response


def error_of(response: bytes, status: int, code: str) -> dict[str, str]:
    """The fields of the head of an error in the API's form."""
    fields, _, body = response.partition(b"\r\n\r\n")
    lines = fields.decode().split("\r\n")
    assert lines[0].startswith(f"HTTP/1.1 {status} ")
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}


@pytest.fixture(scope="module")
def impatient(tiny_model: Path) -> Iterator[Live]:
    """A server with a key and short limits."""
    with live(tiny_model, api_keys=(KEY,), write_seconds=0.5, body_seconds=0.5, max_connections=30) as server:
        yield server


# --- what a client without a key sends ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2**16])
def test_an_endless_body_without_a_key_is_cut(size: int, impatient: Live) -> None:
    chunk = (b"%x\r\n" % size + b"x" * size + b"\r\n") * max(1, 4096 // size)
    sent, slowest = 0, 0.0
    with plug(impatient) as connected:
        connected.sendall(CHUNKED.encode() + b"\r\n")
        start = time.monotonic()
        with contextlib.suppress(OSError):
            while sent < 2**26:
                sent += connected.send(chunk)
        slowest = time.monotonic() - start
    assert sent < 2**24
    assert slowest < 15
    assert httpx.get(f"{impatient.url}/liveness", trust_env=False).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(("length", "status"), [(1_000_000, 413), (1000, 408)])
def test_a_trickled_body_of_any_method_ends(method: str, length: int, status: int, impatient: Live) -> None:
    with plug(impatient) as connected:
        connected.sendall(f"{method} /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\nx".encode())
        connected.settimeout(0.1)
        start, response = time.monotonic(), b""
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - start < 15:
                with contextlib.suppress(TimeoutError):
                    part = connected.recv(2**16)
                    response += part
                    if not part:
                        break
                connected.sendall(b"x")
        assert time.monotonic() - start < 10
        assert response.startswith(b"HTTP/1.1 %d" % status)
        assert b"connection: close" in response.lower()


def test_a_body_is_allowed_where_none_is_needed(http: httpx.Client) -> None:
    for _ in range(2):  # on one connection
        assert http.request("GET", "/liveness", content=b"{}", headers={"Content-Type": "text/plain"}).json()
        check(http.request("DELETE", "/api/jobs/none", json={}), 404)


def test_a_client_that_never_reads_is_dropped(impatient: Live) -> None:
    connections = impatient._server.server_state.connections
    until(lambda: not connections)
    with plug(impatient) as connected:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        with contextlib.suppress(OSError):
            while True:
                connected.sendall(LARGE * 100)
        until(lambda: not connections)


@pytest.mark.slow
def test_a_client_that_reads_slowly_gets_everything(impatient: Live) -> None:
    requests = 300
    with plug(impatient) as connected:
        connected.sendall(LARGE * (requests - 1) + LARGE.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n")
        num, tail, start = 0, b"", time.monotonic()
        while part := connected.recv(2**16):
            num, tail = num + (tail[-15:] + part).count(b"HTTP/1.1 200 OK"), part
            if time.monotonic() - start < 1.5:  # three times the limit for a client that takes nothing
                time.sleep(0.05)
    assert num >= requests


# --- chunks, heads and JSON that are slow to parse ------------------------------------------------------------------


def test_chunks_of_one_byte(server: Live, http: httpx.Client) -> None:
    body = json.dumps({"prompt": "a", "steps": 1, "user": "b" * 900}).encode()
    answer = http.post(MAKE, content=(bytes([byte]) for byte in body), headers=JSON)
    assert answer.status_code == 200
    with plug(server) as connected, contextlib.suppress(ConnectionError):
        connected.sendall(CHUNKED.encode() + b"\r\n" + b"1\r\nx\r\n" * 100_000)
        assert error_of(read_all(connected), 400, "chunks_too_small")["connection"] == "close"


@pytest.mark.parametrize("rest", [b"a:\r\n" * 60_000, b"a: " + b"b" * 200_000], ids=["lines", "one line"])
def test_a_head_of_200_kb(rest: bytes, server: Live) -> None:
    with plug(server) as connected:
        with contextlib.suppress(ConnectionError):
            connected.sendall(GET + rest + b"\r\n\r\n")
        error_of(read_all(connected), 400, "invalid_http")


def test_the_event_loop_stays_free_while_hostile_bytes_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten parsers that never end get TURN_SECONDS of a turn together, one after another."""
    parsed: list[int] = []
    now = 0.0  # the loop's clock, which stands still while other programs use the machine

    class Endless:
        def __init__(self, num: int) -> None:
            self._num = num

        def parse(self) -> bool:
            nonlocal now
            parsed.append(self._num)
            now += 0.002
            return True

        def abort(self) -> None:
            raise AssertionError("nothing is wrong with it")

    async def run() -> list[int]:
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        shared = Turns()
        for num in range(10):
            shared.add(Endless(num))
        counts = []
        for _ in range(20):
            before = len(parsed)
            await asyncio.sleep(0)
            counts.append(len(parsed) - before)
        return counts

    monkeypatch.setattr(turns, "TURN_SECONDS", 0.005)
    assert max(asyncio.run(run())) == 3
    assert parsed[:3] == [0] * 3
    assert set(parsed) == set(range(10))


def test_an_error_of_one_connection_ends_that_one(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    class Parser:
        def __init__(self, name: str) -> None:
            self._name = name

        def parse(self) -> bool:
            if self._name == "broken":
                raise ZeroDivisionError
            done.append(self._name)
            return done.count(self._name) < 3

        def abort(self) -> None:
            done.append("aborted")

    async def run() -> None:
        shared = Turns()
        for name in ("first", "broken", "last"):
            shared.add(Parser(name))
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert sorted(done) == ["aborted", *["first"] * 3, *["last"] * 3]
    assert [record.message for record in caplog.records] == ["unexpected error of a connection"]


@pytest.mark.parametrize("part", [b"[],", b"{},", b"1,", b'"",'])
@pytest.mark.parametrize("path", ["/api/jobs", "/api/look", "/api/denoise", "/api/receipt", MAKE])
def test_json_of_many_small_values(path: str, part: bytes, http: httpx.Client) -> None:
    size = 250_000 if path == MAKE else 8 * 2**20 - 200
    body = b'{"prompt": "a", "steps": 1, "image": "", "x": [' + part * (size // len(part)) + b"1]}"
    answer = http.post(path, content=body, headers=JSON)
    if size // len(part) > 2**17 // part.count(b",") or part in (b"[],", b"{},"):
        assert "131,072" in check(answer, 400, code="json_too_complex")["message"]


@pytest.mark.parametrize("part", ["\\n", "\u00e9", "A\U0001f600\\n"])
def test_json_of_8_mb_of_odd_letters(part: str, http: httpx.Client) -> None:
    body = '{"image": "' + part * (8 * 2**20 // len(part.encode()) - 10) + '"}'
    check(http.post("/api/receipt", content=body.encode(), headers=JSON), 400, code="json_too_complex")


def test_json_of_one_large_value_and_a_prompt_of_commas(http: httpx.Client) -> None:
    assert http.post("/api/receipt", json={"image": "a" * (8 * 2**20 - 200)}).status_code == 200
    escaped = b'{"image": "' + b"a" * 2**22 + b"a\\/" * 2**18 + b'"}'
    assert http.post("/api/receipt", content=escaped, headers=JSON).status_code == 200
    odd = {"prompt": "\U0001f600" * 32_000, "negative_prompt": "\u00e9" * 32_000, "steps": 1}
    wide = json.dumps(odd, ensure_ascii=False).encode()
    assert http.post(MAKE, content=wide, headers=JSON).status_code == 200
    body = {"prompt": "," * 32_000, "negative_prompt": "[" * 32_000, "steps": 1}
    assert http.post(MAKE, json=body).status_code == 200


# --- answers --------------------------------------------------------------------------------------------------------


def test_the_413_arrives_while_the_body_is_still_sent(server: Live) -> None:
    for _ in range(5):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", "/api/jobs", b"x" * (9 * 2**20), JSON)
            answer = connection.getresponse()
            assert answer.status == 413
            assert json.loads(answer.read())["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    "request_",
    [b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
     b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
     CHUNKED.encode() + b"\r\nnot a length\r\n"],
    ids=["words", "TLS", "no host", "length", "chunk"],
)  # fmt: skip
def test_what_is_not_http(request_: bytes, server: Live) -> None:
    with plug(server) as connected:
        connected.sendall(request_)
        fields = error_of(read_all(connected), 400, "invalid_http")
        assert fields["content-type"] == "application/json"
        assert fields["x-request-id"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("FETCH /v1/models HTTP/1.1", 405),
        ("CONNECT localhost:80 HTTP/1.1", 404),
        ("OPTIONS * HTTP/1.1", 404),
        ("TRACE /v1/models HTTP/1.1", 405),
        ("GET /v1/%ff%00 HTTP/1.1", 404),
        ("GET /v1/nothing HTTP/1.0", 404),
        ("POST /v1/models HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 0", 405),
        ("GET /v1/nothing HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade", 404),
        ("PRI * HTTP/2.0", 404),
    ],
)
def test_odd_requests_get_errors_of_the_api(request_: str, status: int, server: Live) -> None:
    with plug(server) as connected:
        connected.sendall(f"{request_}\r\nHost: localhost\r\n\r\n".encode())
        connected.shutdown(socket.SHUT_WR)
        response = read_all(connected).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 %d " % status), response[:200]
    assert set(json.loads(response.partition(b"\r\n\r\n")[2])["error"]) == {"message", "type", "param", "code"}


def test_too_many_connections(impatient: Live) -> None:
    connections = impatient._server.server_state.connections
    until(lambda: not connections)
    authorization = f"Authorization: Bearer {KEY}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(plug(impatient))
        until(lambda: len(connections) == 30)
        with plug(impatient) as connected:
            connected.sendall(GET + authorization.replace(b"\r\n\r\n", b"\r\n") + b"\r\n")
            assert read_all(connected).startswith(b"HTTP/1.1 200")  # whether it lives can always be asked
        with plug(impatient) as connected:
            connected.sendall(GET.replace(b"/liveness", b"/version") + authorization)
            fields = error_of(read_all(connected), 503, "server_is_overloaded")
            assert int(fields["retry-after"]) >= 1
        until(lambda: len(connections) == 30)
        for _ in range(64):
            stack.enter_context(plug(impatient))
        until(lambda: len(connections) == 94)
        with plug(impatient) as connected:
            error_of(read_all(connected), 503, "server_is_overloaded")
    until(lambda: not connections)
    with httpx.Client(base_url=impatient.url, trust_env=False) as http:
        assert http.get("/version", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/health", "/liveness", "/version", "/metrics", "/v1/models", "/api/models"])
def test_head_answers_wherever_get_does(path: str, http: httpx.Client) -> None:
    get, head_ = http.get(path), http.head(path)
    assert head_.status_code == get.status_code == 200
    assert head_.content == b""
    assert head_.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":
        assert head_.headers["content-length"] == str(len(get.content))


def test_head_of_a_stream_ends_at_once(http: httpx.Client) -> None:
    job = http.post("/api/jobs", json={"prompt": "a", "steps": 1}).json()["id"]
    assert http.head(f"/api/jobs/{job}/events").headers["content-type"].startswith("text/event-stream")
    assert http.head("/v1/nothing").status_code == 404
    assert http.head(MAKE).status_code == 405
