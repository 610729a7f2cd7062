"""What goes wrong with a request, in the shape that OpenAI clients read; nothing of the input is repeated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Fault(Exception):
    """An answer other than 200.

    Args:
        code: for programs, such as invalid_value.
        param: the field that is wrong.
        retry_after: seconds, for what may work later; sends Retry-After.
        final: sends `x-should-retry: false`, for what will fail again.
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
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        if self.status == 503:
            kind = "service_unavailable_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, self.headers)


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> Fault:
    """A request that is wrong and will stay so."""
    return Fault(400, message, code, param)


def of_validation(errors: Sequence[Any]) -> Fault:
    """The first of pydantic's errors, without what was sent."""
    first = errors[0]
    kind, place = str(first["type"]), [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    param = place[0] if place else None
    if kind.startswith("json_"):
        return invalid("the body is not JSON", None, "invalid_json")
    if kind == "missing" and param is None:
        return invalid("the body is empty; send a JSON object", None, "invalid_json")
    if kind == "missing":
        return invalid(f"{param} is missing", param, "missing_required_parameter")
    if kind == "string_too_long":
        limit = first.get("ctx", {}).get("max_length")
        return invalid(f"{param} is longer than {limit} characters", param, "string_above_max_length")
    if kind in ("model_attributes_type", "dict_type"):
        return invalid("the body must be a JSON object", None, "invalid_json")
    says = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return invalid(f"{param or 'the request'} {says}", param)
