"""Idempotency-Key: a repeated request gets the job of the first one.

A client that loses its connection, or its patience, repeats its request. With a key the repetition joins the first
request's job or gets its result, down to the random seed. Without a key a disconnect cancels the job at once; with a
key the job continues for GRACE_SECONDS, in case the client returns.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.requests import Request as HttpRequest

from tintype.serving.api.errors import ApiError, bad_request
from tintype.serving.engine.job import Job

HEADER = "idempotency-key"
GRACE_SECONDS = 15.0  # clients wait at most 8 before they retry
MAX_ENTRIES = 200
MAX_AGE = 3600.0  # seconds
MAX_BYTES = 256 * 2**20  # of the frames and results of finished jobs; the oldest are forgotten first
_KEY = re.compile(r"[\x21-\x7e]{1,255}")

CacheKey = tuple[str, str, str]  # owner, path, Idempotency-Key


@dataclass(slots=True)
class _Entry:
    request_hash: bytes
    job: Job
    created: float
    num_readers: int


class IdempotencyCache:
    """Jobs by owner and Idempotency-Key. Used on the event loop only."""

    def __init__(self) -> None:
        self._entries: dict[CacheKey, _Entry] = {}

    def find(self, request: HttpRequest, request_hash: bytes) -> Job | None:
        """The job of the same request; None if it is the first, or if the first one failed and may be retried.

        Raises ApiError: 422 if the key was used for another request.
        """
        key = _cache_key(request)
        entry = self._entries.get(key) if key is not None else None
        if key is None or entry is None:
            return None
        if entry.request_hash != request_hash:
            message = "this Idempotency-Key was used for another request; use a new key"
            raise ApiError(422, message, "idempotency_key_reused", final=True)
        if entry.job.status in ("failed", "cancelled"):
            del self._entries[key]
            return None
        entry.num_readers += 1
        return entry.job

    def add(self, request: HttpRequest, request_hash: bytes, job: Job) -> None:
        """Remember the job of a request that has a key, and forget the oldest ones beyond the limits."""
        key = _cache_key(request)
        if key is None:
            return
        self._entries[key] = _Entry(request_hash, job, time.monotonic(), num_readers=1)
        num_bytes = sum(entry.job.num_bytes for entry in self._entries.values() if not entry.job.open)
        for other, entry in list(self._entries.items()):
            expired = entry.created + MAX_AGE < time.monotonic()
            if not entry.job.open and (expired or len(self._entries) > MAX_ENTRIES or num_bytes > MAX_BYTES):
                num_bytes -= entry.job.num_bytes
                del self._entries[other]

    def release(self, job: Job) -> bool:
        """Count off a reader of a job. True if the job has a key, so that a reader may return."""
        entries = self._entries_of(job)
        for entry in entries:
            entry.num_readers -= 1
        return bool(entries)

    def has_readers(self, job: Job) -> bool:
        """Whether a client waits for a job."""
        return any(entry.num_readers for entry in self._entries_of(job))

    def _entries_of(self, job: Job) -> list[_Entry]:
        return [entry for entry in self._entries.values() if entry.job is job]


def hash_request(body: BaseModel, *files: bytes) -> bytes:
    """SHA-256 of everything in a request that determines its result."""
    digest = hashlib.sha256(body.model_dump_json().encode("utf-8", "surrogatepass"))
    for file in files:
        digest.update(f" {len(file)} ".encode())
        digest.update(file)
    return digest.digest()


def has_key(request: HttpRequest) -> bool:
    """Whether a request has an Idempotency-Key. Raises ApiError for a malformed one."""
    return _cache_key(request) is not None


def _cache_key(request: HttpRequest) -> CacheKey | None:
    """Raises ApiError for a malformed key."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise bad_request("Idempotency-Key must be 1 to 255 printable ASCII characters", "Idempotency-Key")
    return request.state.owner, request.url.path, key
