"""The guard before all routes: host, origin, key, body of a request (size, time, JSON), headers of a response."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tintype.serving import logs
from tintype.serving.api.errors import ApiError, too_many_connections, too_many_of_client
from tintype.serving.api.keys import Keys
from tintype.serving.api.origin import Origins, inner_path, prefix_of
from tintype.serving.api.shares import Share
from tintype.serving.engine.metrics import Metrics
from tintype.serving.settings import Settings

PUBLIC = ("/health", "/healthz", "/liveness")  # without a key
CHUNK_TYPE = "application/octet-stream"  # of parts of files, the bodies of all PUT requests
FORMS = ("/v1/images/edits", "/v1/images/variations")
IMAGE_JSON = (  # JSON with images
    *("/api/jobs", "/api/look", "/api/denoise", "/api/receipt", "/api/tokens/encode"),
    *("/sdapi/v1/img2img", "/sdapi/v1/png-info"),
)
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
CHUNK = 256 * 1024  # bytes of a response that are sent at once
PIECE = 32 * 1024  # bytes of a body that the application gets at once
MAX_ESCAPES = 2**18  # of JSON: as many as base64 of the largest body has, if each slash is escaped
MAX_NOT_ASCII = 2**20  # bytes of JSON, counted in whole pieces
PIECES_PER_TURN = 16  # of JSON that are counted in one turn of the event loop


class _ClientDisconnected(Exception):
    """The client disconnected before its request was complete."""


class RequestGuard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, keys: Keys | None = None) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._keys = Keys(settings.api_keys) if keys is None else keys
        self._origins = Origins(settings.allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sender = _ResponseSender(send, uuid.uuid4().hex, head_only=scope["method"] == "HEAD")
        sender.unread = _has_body(headers)
        root_path = self._settings.root_path
        path = inner_path(scope["path"], root_path)
        scope = {**scope, "method": "GET" if sender.head_only else scope["method"], "path": path or "/"}
        scope.setdefault("state", {}).update(request_id=sender.request_id, prefix=prefix_of(headers, root_path))
        try:
            self._admit(scope, headers, sender)
            if path is None:
                await RedirectResponse(f"{root_path}/")(scope, receive, sender)
                return
            await self._app(scope, await self._body(scope, headers, receive, sender), sender)
        except ApiError as error:
            await _send_error(error, scope, receive, sender)
        except _ClientDisconnected:
            sender.status = 499
        except asyncio.CancelledError:  # the time to finish requests before the server stops is over
            stopping = ApiError(503, "the server is shutting down", "server_is_overloaded", retry_after=10)
            await _send_error(stopping, scope, receive, sender)
            raise
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # a panic of a library, too, which is no Exception
            logs.log.exception("unexpected error", extra={"fields": {"request_id": sender.request_id}})
            message = f"unexpected {type(error).__name__}; the server's log has the details"
            await _send_error(ApiError(500, message, "internal_error"), scope, receive, sender)
        finally:
            self._log(scope, sender)

    def _admit(self, scope: Scope, headers: Headers, sender: _ResponseSender) -> None:
        """Refuse a connection too many, another site's page, a request without a key. Raises ApiError."""
        overloaded: bool = scope["state"].get("overloaded", False)
        share: Share | None = scope["state"].get("share")  # None: the server has other connections than ours
        is_public = scope["path"] in PUBLIC
        sender.excess = overloaded or (share is not None and share.excess > 0)
        if overloaded and not is_public:
            raise too_many_connections()
        self._origins.check(scope, headers)
        owner = scope["state"]["owner"] = self._owner(scope, headers)
        address: tuple[str, int] | None = scope.get("client")
        scope["state"]["client"] = owner if self._keys else address[0] if address else ""  # for fair shares
        if share is None or is_public:
            return
        if not (share.claim(owner) if self._keys else share.excess == 0):
            raise too_many_of_client(share.limit)
        sender.excess = overloaded

    def _owner(self, scope: Scope, headers: Headers) -> str:
        """The client's key by number."""
        if not self._keys:
            return "anyone"
        if scope["path"] in PUBLIC:
            return ""
        owner = self._keys.owner(_credential(headers.get("authorization", "")))
        if owner is None:
            # A browser that opens the page asks its user for a Basic password, which is the key.
            scheme = "Bearer" if scope["path"].startswith("/v1") else 'Basic realm="tintype", charset="UTF-8"'
            raise ApiError(401, "a valid API key is needed", "invalid_api_key", headers={"WWW-Authenticate": scheme})
        return owner

    async def _body(self, scope: Scope, headers: Headers, receive: Receive, sender: _ResponseSender) -> Receive:
        """Read the whole body, within the limits on size and time; returns a `receive` that replays it."""
        path = scope["path"]
        wants_body = scope["method"] in ("POST", "PUT", "PATCH")
        if not wants_body and not sender.unread:
            return receive
        settings = self._settings
        is_chunk = scope["method"] == "PUT" and settings.max_chunk > 0
        limit = settings.max_form if path in FORMS else settings.max_base64 if path in IMAGE_JSON else settings.max_json
        limit = settings.max_chunk if is_chunk else limit
        length = headers.get("content-length", "0")
        pieces: list[bytearray] = []
        if length.isdecimal() and int(length[:20]) <= limit:
            try:
                async with asyncio.timeout(self._settings.body_seconds):
                    pieces = await _read(receive, limit)
            except TimeoutError:
                raise ApiError(408, "the request was not received in time", "request_timeout") from None
        else:
            raise _too_large(limit)
        sender.unread = False
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        expected = "multipart/form-data" if path in FORMS else CHUNK_TYPE if is_chunk else "application/json"
        is_api = wants_body and path.startswith(("/v1/", "/api/", "/sdapi/"))
        if is_api and content_type != expected and (pieces or content_type):
            raise ApiError(415, f"the content type must be {expected}", "unsupported_media_type")
        if content_type == "application/json":
            await _check_json(pieces, settings.max_json_values)
        return _replay(pieces, receive)

    def _log(self, scope: Scope, sender: _ResponseSender) -> None:
        self._metrics.http.labels(str(sender.status)).inc()
        if scope["path"] in (*PUBLIC, "/metrics") and sender.status == 200:
            return
        route = scope.get("route")
        logs.event(
            "request",
            request_id=sender.request_id,
            method="HEAD" if sender.head_only else scope["method"],
            path=getattr(route, "path", "(unknown)"),
            status=sender.status,
            seconds=round(time.monotonic() - sender.started, 4),
            owner=scope["state"].get("owner"),
            retry=Headers(scope=scope).get("x-stainless-retry-count"),
        )


class _ResponseSender:
    """Sends a response with the headers common to all, and keeps its status.

    head_only: the response to HEAD, which ends after its headers.
    unread: not all of the request has been read; the connection must close.
    excess: the connection is one too many, and must close.
    """

    def __init__(self, send: Send, request_id: str, *, head_only: bool = False) -> None:
        self._send = send
        self.request_id = request_id
        self.head_only = head_only
        self.unread = False
        self.excess = False
        self._complete = False
        self.status = 0  # nothing sent yet
        self.started = time.monotonic()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if self.unread or self.excess:
                headers["connection"] = "close"
        elif self._complete:
            return
        elif self.head_only:  # a stream would go on for nobody
            self._complete = True
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        body = message.get("body", b"")
        if len(body) <= CHUNK:
            return await self._send(message)
        starts = range(0, len(body), CHUNK)
        for start in starts:
            more = message.get("more_body", False) or start != starts[-1]
            await self._send({**message, "body": body[start : start + CHUNK], "more_body": more})
            await asyncio.sleep(0)


async def _send_error(error: ApiError, scope: Scope, receive: Receive, sender: _ResponseSender) -> None:
    if sender.status == 0:
        await error.response()(scope, receive, sender)


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip("0") != ""


async def _read(receive: Receive, limit: int) -> list[bytearray]:
    """A body in pieces of PIECE bytes, never in one, because copying many megabytes would block the event loop."""
    pieces: list[bytearray] = []
    size = 0
    while True:
        message: dict[str, Any] = dict(await receive())
        if message["type"] == "http.disconnect":
            raise _ClientDisconnected
        content = memoryview(message.get("body", b""))
        size += len(content)
        if size > limit:
            raise _too_large(limit)
        while content:
            if not pieces or len(pieces[-1]) == PIECE:
                pieces.append(bytearray())
            room = PIECE - len(pieces[-1])
            pieces[-1] += content[:room]
            content = content[room:]
        if not message.get("more_body", False):
            return pieces


async def _check_json(pieces: list[bytearray], limit: int) -> None:
    """Refuse JSON that is slow to parse, because the parser would hold the event loop, on any thread.

    Slow are many small values (brackets and commas count, inside texts too), escapes, and letters that are not ASCII.
    """
    num = escapes = not_ascii = 0
    for i, piece in enumerate(pieces, 1):
        num += piece.count(b",") + piece.count(b"[") + piece.count(b"{")
        escapes += piece.count(b"\\")
        not_ascii += 0 if piece.isascii() else len(piece)
        if num > limit or escapes > MAX_ESCAPES:
            message = f"the JSON has more than {limit:,} brackets and commas or {MAX_ESCAPES:,} escapes; send fewer"
            raise ApiError(400, message, "json_too_complex")
        if not_ascii > MAX_NOT_ASCII:
            message = f"the JSON has more than {MAX_NOT_ASCII // 1024:,} KiB of text that is not ASCII; send less"
            raise ApiError(400, message, "json_too_complex")
        if i % PIECES_PER_TURN == 0:
            await asyncio.sleep(0)


def _replay(pieces: list[bytearray], receive: Receive) -> Receive:
    """A `receive` that replays a body, with a turn of the event loop before each piece, and then continues."""
    pieces.reverse()
    complete = False

    async def replay() -> Message:
        nonlocal complete
        if complete:
            return await receive()
        await asyncio.sleep(0)
        body = bytes(pieces.pop()) if pieces else b""
        complete = not pieces
        return {"type": "http.request", "body": body, "more_body": not complete}

    return replay


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the request is larger than {limit // 1024:,} KiB", "request_too_large")


def _credential(authorization: str) -> bytes:
    """The key in `Bearer KEY`, or the password in `Basic ...`."""
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return value.strip().encode("latin-1", "ignore") if scheme.lower() == "bearer" else b""
