"""Bad requests of every kind get the right answer, in one shape, and the server goes on: what is sent."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import pytest
from tests.serving.abuse import JSON, MAKE, check, raw
from tests.serving.conftest import Live

pytestmark = pytest.mark.usefixtures("still_alive")


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
    response = http.post(MAKE, json={"prompt": "a", "seed": -1, "steps": 1}).json()
    assert 0 <= response["data"][0]["seed"] < 2**63


# --- 8 to 13: ranges and choices ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, -1, 11, True, "2", 2.5])
def test_8_numbers_of_pictures(n: Any, http: httpx.Client) -> None:
    check(http.post(MAKE, json={"prompt": "a", "n": n}), 400, "n")


@pytest.mark.parametrize("size", ["0x0", "7x7", "99999x99999", "1024", "１０２４x１０２４", "16x", "16x16x16", "-16x16",
                                  "4096x4096", "16 x 16", 16, ["16x16"]])  # fmt: skip
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
    body = {"prompt": "a", "n": 10, "size": "64x64", "steps": 200}
    check(http.post(MAKE, json=body), 400, code="request_too_large")


@pytest.mark.parametrize("model", ["gpt-image-1", "../../etc/passwd", "/", "tiny/"])
def test_12_unknown_models(model: str, http: httpx.Client) -> None:
    check(http.post(MAKE, json={"prompt": "a", "model": model}), 404, "model", "model_not_found")
    if not model.endswith("/"):  # of an address, a slash at the end is ignored
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
@pytest.mark.parametrize("path", [MAKE, "/api/jobs", "/api/look", "/api/denoise"])
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
