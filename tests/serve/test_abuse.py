"""Bad requests of every kind get the right answer, in one shape, and the server goes on."""

from __future__ import annotations

import base64
import io
import json
import logging
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.serve.conftest import Held, Live, held_pipeline, live, until

from tintype.serve.logs import JsonLines

MAKE = "/v1/images/generations"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def still_alive(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every kind of abuse the server makes pictures."""
    http: httpx.Client | None = request.getfixturevalue("http") if "http" in request.fixturenames else None
    yield
    if http is not None:
        assert http.post(MAKE, json={"prompt": "a", "steps": 1}).status_code == 200
        assert http.get("/health").json()["status"] == "ready"


def check(answer: httpx.Response, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The status, in the shape of an OpenAI error, with a request id, and without what was sent."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert answer.headers["x-request-id"]
    assert len(answer.content) < 1000
    if param is not None:
        assert error["param"] == param
    if code is not None:
        assert error["code"] == code
    return error


def head(path: str, length: int) -> bytes:
    """The head of a POST with a JSON body of so many bytes, for a plain socket."""
    lines = (f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def raw(http: httpx.Client, body: str | bytes, path: str = MAKE) -> httpx.Response:
    return http.post(path, content=body, headers=JSON)


# --- 1 to 7: texts and numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [MAKE, "/api/jobs"])
@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "model"])
def test_1_half_a_character(path: str, field: str, http: httpx.Client) -> None:
    body = {"prompt": "a", field: "@"}
    check(raw(http, json.dumps(body).replace("@", "\\ud800"), path), 400, field, "invalid_value")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_2_not_a_number_for_a_float(value: str, http: httpx.Client) -> None:
    check(raw(http, f'{{"prompt": "a", "guidance_scale": {value}}}'), 400, "guidance_scale")


@pytest.mark.parametrize("field", ["seed", "n", "num_inference_steps"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e5", "1.0"])
def test_3_not_a_number_for_a_whole_number(field: str, value: str, http: httpx.Client) -> None:
    check(raw(http, f'{{"prompt": "a", "{field}": {value}}}'), 400, field)


def test_4_a_body_of_50_megabytes_is_refused_before_it_is_read(server: Live, http: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as plug:
        head = f"POST {MAKE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 50000000"
        plug.sendall(head.encode() + b"\r\n\r\n")
        assert plug.recv(100).startswith(b"HTTP/1.1 413")
    chunked = http.post(MAKE, content=(b" " * 2**16 for _ in range(64)), headers=JSON)
    check(chunked, 413, code="request_too_large")


def test_5_a_prompt_that_is_too_long(http: httpx.Client) -> None:
    check(http.post(MAKE, json={"prompt": "a" * 50_000}), 400, "prompt", "string_above_max_length")


@pytest.mark.parametrize("body", ['{"prompt": null}', '{"prompt": ["a"]}', "{}", '{"prompt": 3}', '{"prompt": {}}'])
def test_6_no_prompt(body: str, http: httpx.Client) -> None:
    check(raw(http, body), 400, "prompt")


def test_6_an_empty_prompt_makes_whatever_comes(http: httpx.Client) -> None:
    assert http.post(MAKE, json={"prompt": "", "steps": 1}).status_code == 200


@pytest.mark.parametrize("seed", [10**399, 2**63, -2, -(2**63)], ids=["400 digits", "2^63", "-2", "-2^63"])
def test_7_seeds_out_of_range(seed: int, http: httpx.Client) -> None:
    check(raw(http, f'{{"prompt": "a", "seed": {seed}}}'), 400, "seed")


def test_7_minus_one_means_any_seed(http: httpx.Client) -> None:
    made = http.post(MAKE, json={"prompt": "a", "seed": -1, "steps": 1}).json()
    assert 0 <= made["data"][0]["seed"] < 2**63


# --- 8 to 13: ranges and choices ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, -1, 11, True, "2", 2.5])
def test_8_numbers_of_pictures(n: Any, http: httpx.Client) -> None:
    check(http.post(MAKE, json={"prompt": "a", "n": n}), 400, "n")


@pytest.mark.parametrize("size", ["0x0", "7x7", "99999x99999", "1024", "１０２４x１０２４", "16x", "16x16x16", "-16x16",
                                  "1024x1024", "16 x 16", 16, ["16x16"]])  # fmt: skip
def test_9_sizes(size: Any, http: httpx.Client) -> None:
    check(http.post(MAKE, json={"prompt": "a", "size": size}), 400, "size")


@pytest.mark.parametrize("size", ["auto", None])
def test_9_no_size_is_the_models_own(size: Any, http: httpx.Client) -> None:
    assert http.post(MAKE, json={"prompt": "a", "size": size, "steps": 1}).json()["size"] == "16x16"


@pytest.mark.parametrize(("field", "value"), [("num_inference_steps", 0), ("num_inference_steps", 10**9),
                                              ("guidance_scale", -5), ("guidance_scale", 1e9)])  # fmt: skip
def test_10_steps_and_guidance(field: str, value: Any, http: httpx.Client) -> None:
    check(http.post(MAKE, json={"prompt": "a", field: value}), 400, field)


def test_11_more_work_than_one_request_may_ask_for(http: httpx.Client) -> None:
    ask = {"prompt": "a", "n": 10, "size": "64x64", "steps": 200}
    check(http.post(MAKE, json=ask), 400, code="request_too_large")


@pytest.mark.parametrize("model", ["gpt-image-1", "../../etc/passwd", "/", "tiny/"])
def test_12_unknown_models(model: str, http: httpx.Client) -> None:
    check(http.post(MAKE, json={"prompt": "a", "model": model}), 404, "model", "model_not_found")
    check(http.get(f"/v1/models/{model}"), 404)


@pytest.mark.parametrize(("field", "value"), [("sampler", "magic"), ("output_format", "svg"), ("output_format", "gif"),
                                              ("response_format", "url"), ("background", "transparent")])  # fmt: skip
def test_13_unknown_choices(field: str, value: str, http: httpx.Client) -> None:
    error = check(http.post(MAKE, json={"prompt": "a", field: value}), 400, field)
    if field == "sampler":
        assert "unipc" in error["message"]


# --- 14 to 16: not the right kind of request ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b'{"prompt": "a', b"[]", b'"a"', b"null", b"", b'{"prompt": "\xff\xfe"}', b'{"a":' * 50_000, b"[" * 100_000],
)
@pytest.mark.parametrize("path", [MAKE, "/api/jobs", "/api/look"])
def test_14_bodies_that_are_no_json_object(body: bytes, path: str, http: httpx.Client) -> None:
    assert check(raw(http, body, path), 400)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_15_other_content_types(kind: str, http: httpx.Client) -> None:
    check(http.post(MAKE, content=b'{"prompt": "a"}', headers={"Content-Type": kind}), 415)
    check(http.post("/v1/images/edits", content=b"{}", headers=JSON), 415)


def test_16_other_methods_and_places(http: httpx.Client) -> None:
    assert "POST" in http.get(MAKE).headers["allow"]
    check(http.get(MAKE), 405)
    check(http.delete("/v1/models"), 405)
    check(http.get("/v1/nothing"), 404)
    check(http.post("/nothing", json={}), 404)


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


# 18, a key without the right to something, is test_jobs.test_jobs_belong_to_their_key.
# 19, a full queue, is test_openai.test_overload_is_a_rate_limit_error_at_once.


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


def test_21_a_deadline_passes(slow: tuple[Live, Held, httpx.Client]) -> None:
    server, denoiser, http = slow
    denoiser.hold()
    threading.Timer(1.2, denoiser.allow, (3,)).start()
    check(http.post(MAKE, json={"prompt": "a"}), 504, code="timeout")
    until(lambda: server.engine.num_running == 0)


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
        until(lambda: any(open_.work.cancelled.is_set() for open_ in list(server.engine._running)))
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


# --- 24 to 26: files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/config.json", "a\x00b", "x" * 3000]
)
def test_24_paths_in_names(name: str, http: httpx.Client) -> None:
    for place in ("/page/", "/api/jobs/", "/api/runs/", "/api/runs/tiny/samples/", "/v1/models/"):
        found = http.get(place + name.replace("\x00", "%00"))
        assert found.status_code == 404, place
        assert b"root:" not in found.content


def test_24_a_path_as_the_name_of_an_upload(http: httpx.Client) -> None:
    files = {"image": ("../../etc/passwd", png(Image.new("RGB", (16, 16))), "image/png")}
    assert http.post("/v1/images/edits", data={"prompt": "a"}, files=files).status_code == 200


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A small PNG that unfolds into side x side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (side // 8 + 1) * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


UPLOADS = {
    "bomb": (bomb(60_000), 413),
    "large": (bomb(9_000), 413),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400),
    "empty": (b"", 400),
    "text": (b"hello", 400),
    "cut short": (png(Image.effect_noise((64, 64), 90))[:800], 400),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400),
    "pickle": (b"\x80\x04\x95\x10\x00\x00\x00", 400),
}


@pytest.mark.parametrize("kind", list(UPLOADS))
def test_25_uploads_that_are_no_pictures(kind: str, http: httpx.Client) -> None:
    content, status = UPLOADS[kind]
    check(http.post("/v1/images/edits", data={"prompt": "a"}, files={"image": ("a.png", content)}), status, "image")
    text = base64.b64encode(content).decode()
    check(http.post("/api/jobs", json={"prompt": "a", "init_image": text}), status, "init_image")
    check(http.post("/api/look", json={"image": text}), status, "image")


def test_25_a_mask_of_another_size_and_forms_of_many_parts(http: httpx.Client) -> None:
    image, mask = png(Image.new("RGB", (16, 16))), png(Image.new("L", (8, 16)))
    check(http.post("/v1/images/edits", data={"prompt": "a"}, files={"image": image, "mask": mask}), 400, "mask")
    check(http.post("/v1/images/edits", data={f"f{i}": "x" for i in range(1000)}, files={"image": image}), 400)
    many = [("image", ("a.png", image))] * 1000
    check(http.post("/v1/images/edits", data={"prompt": "a"}, files=many), 400)
    check(http.post("/v1/images/edits", files={"image": image}), 400, "prompt")
    check(http.post("/v1/images/edits", data={"prompt": "a"}, files={"other": image}), 400, "image")
    check(http.post("/v1/images/edits", data={"prompt": "a", "n": "two"}, files={"image": image}), 400, "n")
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    check(http.post("/v1/images/edits", content=b"--y\r\nnonsense", headers=broken), 400)
    check(http.post("/v1/images/edits", content=b"--y\r\n", headers={"Content-Type": "multipart/form-data"}), 400)
    check(http.post("/v1/images/edits", files={"image": b"\0" * (25 * 2**20)}), 413)


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "file:///etc/passwd", "https://example.com/a.png",
                                 "data:image/png,notbase64", "data:text/html;base64,AAAA", "not base64 !"])  # fmt: skip
def test_26_addresses_of_pictures_are_not_fetched(url: str, http: httpx.Client) -> None:
    check(http.post("/api/jobs", json={"prompt": "a", "init_image": url}), 400, "init_image", "invalid_image")
    check(http.post("/v1/images/edits", data={"prompt": "a", "image": url}, files={"x": b"a"}), 400, "image")


# 27, no memory and values that are not numbers, is in test_engine and test_openai.


# --- 28 to 33: pages of others, markup, logs, habits of clients -------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:8000", "Origin": "http://127.0.0.1.evil.example:8000"},
        {"Host": ""},
    ],
)
def test_28_pages_of_other_sites(headers: dict[str, str], http: httpx.Client) -> None:
    check(http.post(MAKE, json={"prompt": "a"}, headers=headers), 403)
    check(http.get("/api/models", headers=headers), 403)


def test_28_its_own_page_and_a_link_to_it_are_fine(server: Live, http: httpx.Client) -> None:
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert http.post(MAKE, json={"prompt": "a", "steps": 1}, headers=own).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert http.get("/", headers=link).status_code == 200
    for host in ("localhost", "[::1]:80", "192.168.1.7:8000", "me.localhost"):
        assert http.get("/health", headers={"Host": host}).status_code == 200
    assert "access-control-allow-origin" not in http.get("/").headers


def test_28_the_text_plain_trick(http: httpx.Client) -> None:
    trick = {"Content-Type": "text/plain"}
    check(http.post("/api/jobs", content=b'{"prompt": "a"}', headers=trick), 415)


def test_29_captions_are_never_markup(http: httpx.Client) -> None:
    page = http.get("/")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    for name in ("app.js", "make.js", "gallery.js", "how.js", "training.js", "api.js", "plot.js", "paint.js"):
        code = http.get(f"/page/{name}").text
        assert not [
            word for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(") if word in code
        ]


def test_30_nothing_that_is_sent_breaks_a_line_of_the_log(http: httpx.Client) -> None:
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Lines()
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("tintype.serve")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        secret = 'my secret\n{"event": "forged"}\r\n'
        http.post(
            MAKE, json={"prompt": secret, "user": secret, "steps": 1}, headers={"x-stainless-retry-count": "1" * 5000}
        )
        http.get("/v1/models/a%0Ab")
        until(lambda: len(lines) >= 3)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert all(isinstance(json.loads(line), dict) and "\n" not in line for line in lines)
    assert "secret" not in "".join(lines)
    assert max(map(len, lines)) < 2000


def test_31_keys_that_are_unknown_or_come_twice(http: httpx.Client) -> None:
    body = (
        '{"prompt": "a", "prompt": "b", "seed": 1, "steps": 1, "moderation": "low", "new_thing": {"x": [1]}, "n": null}'
    )
    assert raw(http, body).status_code == 200


# 32, a client that asks again and again: test_openai.test_a_client_that_gives_up_waiting_stops_the_work.


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
