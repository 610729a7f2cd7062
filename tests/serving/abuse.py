"""Helpers of the abuse tests: malformed requests and the errors that they must get."""

from __future__ import annotations

from typing import Any

import httpx

MAKE = "/v1/images/generations"
JSON = {"Content-Type": "application/json"}


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
