"""What every request passes first: who asks, from where, how much, how slowly. Also the headers of every answer."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import ipaddress
import re
import secrets
import socket
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tintype.serving import logs
from tintype.serving.api.errors import Fault
from tintype.serving.engine.metrics import Metrics
from tintype.serving.settings import Settings

OPEN = ("/health", "/liveness")  # without a key
FORMS = ("/v1/images/edits", "/v1/images/variations")
PICTURES = ("/api/jobs", "/api/look", "/api/receipt")  # JSON with pictures in it
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


PIECE = 256 * 1024  # bytes of an answer that are sent at once

_CLOSE = {"Connection": "close"}  # what is still being sent is not read


class _Gone(Exception):
    """The client went away before its request was complete."""


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._keys = [_digest(key.encode()) for key in settings.api_keys]
        self._hosts = {"localhost", socket.gethostname().lower(), *(name.lower() for name in settings.allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        answer = _Answer(send, uuid.uuid4().hex)
        scope.setdefault("state", {})["request_id"] = answer.request_id
        try:
            headers = Headers(scope=scope)
            self._check_origin(scope, headers)
            scope["state"]["owner"] = self._owner(scope, headers)
            await self._app(scope, await self._body(scope, headers, receive), answer)
        except Fault as fault:
            await _say(fault, scope, receive, answer)
        except _Gone:
            answer.status = 499
        except Exception as error:
            logs.log.exception("unexpected error", extra={"fields": {"request_id": answer.request_id}})
            unexpected = Fault(500, f"unexpected {type(error).__name__}; the server's log says more", "internal_error")
            await _say(unexpected, scope, receive, answer)
        finally:
            self._log(scope, answer)

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse names this server does not have (DNS rebinding), and pages of other origins."""
        host = headers.get("host", "")
        name = re.sub(r":\d*$", "", host).strip("[]").lower()
        if not (name in self._hosts or name.endswith(".localhost") or _is_address(name)):
            raise Fault(
                403, "this server does not go by that name; start it with --allow-host NAME", "host_not_allowed"
            )
        origin = headers.get("origin")
        own = origin is not None and origin.partition("://")[2].lower() == host.lower()
        link = scope["method"] in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
        foreign = headers.get("sec-fetch-site") == "cross-site" and not link
        if (origin is not None and not own) or foreign:
            raise Fault(403, "pages of another site may not use this server", "origin_not_allowed")

    def _owner(self, scope: Scope, headers: Headers) -> str:
        """Who asks. Every known key is compared, in constant time."""
        if not self._keys:
            return "anyone"
        if scope["path"] in OPEN:
            return ""
        given = _digest(_credential(headers.get("authorization", "")))
        matches = [secrets.compare_digest(given, key) for key in self._keys]
        if True not in matches:
            # The page is opened by browsers, which ask their user for a Basic password: the key.
            scheme = "Bearer" if scope["path"].startswith("/v1") else 'Basic realm="tintype", charset="UTF-8"'
            raise Fault(401, "an API key is needed", "invalid_api_key", headers={"WWW-Authenticate": scheme})
        return f"key-{matches.index(True)}"

    async def _body(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        """The whole body, if it is small enough and comes in time; then whatever else is received."""
        path = scope["path"]
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return receive
        settings = self._settings
        limit = settings.max_form if path in FORMS else settings.max_base64 if path in PICTURES else settings.max_json
        length = headers.get("content-length", "0")
        pieces: list[bytes] = []
        if length.isdecimal() and int(length[:20]) <= limit:
            try:
                async with asyncio.timeout(self._settings.body_seconds):
                    pieces = await _read(receive, limit)
            except TimeoutError:
                raise Fault(408, "the request was not sent in time", "request_timeout", headers=_CLOSE) from None
        else:
            raise _too_large(limit)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        wanted = "multipart/form-data" if path in FORMS else "application/json"
        if path.startswith(("/v1/", "/api/")) and kind != wanted and (any(pieces) or kind):
            raise Fault(415, f"the content type must be {wanted}", "unsupported_media_type")
        return _replay(pieces, receive)

    def _log(self, scope: Scope, answer: _Answer) -> None:
        self._metrics.http.labels(str(answer.status)).inc()
        if scope["path"] in (*OPEN, "/metrics") and answer.status == 200:
            return
        route = scope.get("route")
        logs.event(
            "request",
            request_id=answer.request_id,
            method=scope["method"],
            path=getattr(route, "path", "(unknown)"),
            status=answer.status,
            seconds=round(time.monotonic() - answer.started, 4),
            owner=scope["state"].get("owner"),
            retry=Headers(scope=scope).get("x-stainless-retry-count"),
        )


class _Answer:
    """Sends an answer with the headers that all have, and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0  # nothing was sent
        self.started = time.monotonic()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            for name, value in SECURITY.items():
                headers.setdefault(name, value)
        body = message.get("body", b"")
        if len(body) <= PIECE:
            return await self._send(message)
        starts = range(0, len(body), PIECE)
        for start in starts:
            more = message.get("more_body", False) or start != starts[-1]
            await self._send({**message, "body": body[start : start + PIECE], "more_body": more})
            await asyncio.sleep(0)


async def _say(fault: Fault, scope: Scope, receive: Receive, answer: _Answer) -> None:
    if answer.status == 0:
        await fault.response()(scope, receive, answer)


async def _read(receive: Receive, limit: int) -> list[bytes]:
    """A body as it comes, piece by piece: one of many megabytes is never moved as a whole."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message: dict[str, Any] = dict(await receive())
        if message["type"] == "http.disconnect":
            raise _Gone
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return pieces


def _replay(pieces: list[bytes], receive: Receive) -> Receive:
    """A body that was read, in pieces between which the event loop does other things; then whatever else comes."""
    pieces.reverse()

    async def replay() -> Message:
        if not pieces:
            return await receive()
        await asyncio.sleep(0)
        return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces)}

    return replay


def _too_large(limit: int) -> Fault:
    return Fault(413, f"the request is larger than {limit // 1024:,} KiB", "request_too_large", headers=_CLOSE)


def _credential(authorization: str) -> bytes:
    """The key in `Bearer KEY`, or the password in `Basic ...`."""
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return value.strip().encode("latin-1", "ignore") if scheme.lower() == "bearer" else b""


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
