"""Errors of the API, in the form that OpenAI clients read. Nothing that the client sent is repeated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}


class ApiError(Exception):
    """An error response.

    Args:
        code: for programs, such as invalid_value.
        param: the wrong field.
        retry_after: seconds after which a retry may succeed; sends Retry-After.
        final: a retry would fail again; sends `x-should-retry: false`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        param: str | None = None,
        *,
        retry_after: float | None = None,
        final: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
        if final:
            self.headers["x-should-retry"] = "false"

    def body(self) -> dict[str, Any]:
        error_type = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": error_type, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, self.headers)


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """Status 400: the request is wrong, and a retry would fail again."""
    return ApiError(400, message, code, param)


def too_many_connections() -> ApiError:
    """Status 503: the server has no room for this connection."""
    message = "the server has too many connections; try again later"
    return ApiError(503, message, "server_is_overloaded", retry_after=5, headers={"Connection": "close"})


def too_many_of_client(limit: int) -> ApiError:
    """Status 429: this client has its share of the connections already."""
    message = f"one client may have at most {limit} connections; close some, or try again later"
    return ApiError(429, message, "slow_down", retry_after=5, headers={"Connection": "close"})


def from_validation(errors: Sequence[Any]) -> ApiError:
    """The first of pydantic's errors, without the client's input."""
    first = errors[0]
    error_type = str(first["type"])
    path = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    param = path[0] if path else None
    if error_type.startswith("json_"):
        return bad_request("the body is not JSON", None, "invalid_json")
    if error_type == "missing" and param is None:
        return bad_request("the body is empty; send a JSON object", None, "invalid_json")
    if error_type == "missing":
        return bad_request(f"{param} is missing", param, "missing_required_parameter")
    if error_type == "string_too_long":
        limit = first.get("ctx", {}).get("max_length")
        return bad_request(f"{param} is longer than {limit} characters", param, "string_above_max_length")
    if error_type in ("model_attributes_type", "dict_type") and param is None:
        return bad_request("the body must be a JSON object", None, "invalid_json")
    reason = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return bad_request(f"{param or 'the request'} {reason}", param)
