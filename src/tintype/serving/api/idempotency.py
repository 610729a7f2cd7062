"""Requests that are sent again with the Idempotency-Key of the first: they get its work, not one of their own.

A client that loses its connection, or its patience, sends its request again. With a key the second one joins the first,
or gets what came of it, down to the random seed. Without a key hanging up cancels at once; with one the work goes on
for GRACE seconds, in case the client comes back.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass

from PIL import Image
from pydantic import BaseModel
from starlette.requests import Request

from tintype.serving.api.errors import Fault, invalid
from tintype.serving.engine.job import Work

HEADER = "idempotency-key"
GRACE = 15.0  # seconds; clients wait at most 8 before they try again
KEPT = 200  # requests
KEPT_SECONDS = 3600.0
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(slots=True)
class _Kept:
    mark: bytes  # what was asked for
    work: Work
    created: float
    readers: int


class Repeats:
    """Works by who asked and with which key. Lives on the event loop."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], _Kept] = {}

    def find(self, request: Request, mark: bytes) -> Work | None:
        """The work of the same request sent before; None if there is none, or it failed and may be tried again.

        Raises Fault: 422 if something else was asked for with this key.
        """
        name = _name(request)
        kept = self._kept.get(name) if name is not None else None
        if name is None or kept is None:
            return None
        if kept.mark != mark:
            raise Fault(422, "this Idempotency-Key was used for another request", "idempotency_key_reused", final=True)
        if kept.work.status in ("failed", "cancelled"):
            del self._kept[name]
            return None
        kept.readers += 1
        return kept.work

    def keep(self, request: Request, mark: bytes, work: Work) -> None:
        """Remember a work under the key of its request, if it has one, and forget the oldest beyond the limits."""
        name = _name(request)
        if name is None:
            return
        self._kept[name] = _Kept(mark, work, time.monotonic(), readers=1)
        for old, kept in list(self._kept.items()):
            late = kept.created + KEPT_SECONDS < time.monotonic()
            if not kept.work.open and (late or len(self._kept) > KEPT):
                del self._kept[old]

    def leave(self, work: Work) -> bool:
        """Somebody waits no longer for a work. Whether it has a key, so that somebody may come back."""
        mine = self._of(work)
        for kept in mine:
            kept.readers -= 1
        return bool(mine)

    def alone(self, work: Work) -> bool:
        """Whether nobody waits for a work."""
        return not any(kept.readers for kept in self._of(work))

    def _of(self, work: Work) -> list[_Kept]:
        return [kept for kept in self._kept.values() if kept.work is work]


def mark_of(ask: BaseModel, *pictures: Image.Image | None) -> bytes:
    """What tells one request from another: everything it asks for."""
    digest = hashlib.sha256(ask.model_dump_json().encode("utf-8", "surrogatepass"))
    for picture in pictures:
        digest.update(b"none" if picture is None else f"{picture.mode} {picture.size} ".encode() + picture.tobytes())
    return digest.digest()


def has_key(request: Request) -> bool:
    """Whether a request may be sent again. Raises Fault if its key is none."""
    return _name(request) is not None


def _name(request: Request) -> tuple[str, str, str] | None:
    """Raises Fault if the key is none."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise invalid("Idempotency-Key must be 1 to 255 printable ASCII characters", "Idempotency-Key")
    return request.state.owner, request.url.path, key
