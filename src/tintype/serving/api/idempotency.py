"""Idempotency-Key: a repeated request gets the job of the first one.

A client that loses its connection, or its patience, repeats its request. With a key the repetition joins the first
request's job or gets its result, down to the random seed. Without a key a disconnect cancels the job at once; with a
key the job continues for GRACE_SECONDS, in case the client returns.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.requests import Request as HttpRequest

from tintype.serving.api.errors import ApiError, bad_request
from tintype.serving.api.job_store import JobStore
from tintype.serving.engine.job import Job

HEADER = "idempotency-key"
GRACE_SECONDS = 15.0  # clients wait at most 8 before they retry
_KEY = re.compile(r"[\x21-\x7e]{1,255}")

CacheKey = tuple[str, str, str]  # owner, path, Idempotency-Key


@dataclass(slots=True)
class _Entry:
    request_hash: bytes
    job_id: str
    num_readers: int


class IdempotencyCache:
    """Jobs by owner and Idempotency-Key, for as long as the store keeps them. Used on the event loop only."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._entries: dict[CacheKey, _Entry] = {}

    def find(self, request: HttpRequest, request_hash: bytes) -> Job | None:
        """The job of the same request; None if it is the first, or if the first one failed and may be retried.

        Raises ApiError: 422 if the key was used for another request.
        """
        key = _cache_key(request)
        entry = self._entries.get(key) if key is not None else None
        if key is None or entry is None:
            return None
        job = self._store.find(entry.job_id)
        if job is None:
            del self._entries[key]
            return None
        if entry.request_hash != request_hash:
            message = "this Idempotency-Key was used for another request; use a new key"
            raise ApiError(422, message, "idempotency_key_reused", final=True)
        if job.status in ("failed", "cancelled"):
            del self._entries[key]
            return None
        entry.num_readers += 1
        return job

    def add(self, request: HttpRequest, request_hash: bytes, job: Job) -> None:
        """Remember the job of a request that has a key."""
        key = _cache_key(request)
        if key is None:
            return
        self._entries[key] = _Entry(request_hash, job.id, num_readers=1)
        self._store.add(job)
        self.prune()

    def prune(self) -> None:
        """Forget the keys of jobs that the store has forgotten."""
        for key, entry in list(self._entries.items()):
            if self._store.find(entry.job_id) is None:
                del self._entries[key]

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
        return [entry for entry in self._entries.values() if entry.job_id == job.id]


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
