"""The job store: one bound for jobs that clients read and for those that repeated requests find."""

from __future__ import annotations

import gc
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import torch
from tests.serving.conftest import live, until

from tintype.serving.api import app, job_store
from tintype.serving.api.errors import ApiError
from tintype.serving.api.idempotency import IdempotencyCache
from tintype.serving.api.job_store import JobStore
from tintype.serving.engine.job import Job, Task

RESULT_BYTES = 1000


def done_job(num_bytes: int = RESULT_BYTES, picture_bytes: int = 0) -> Job:
    job = Job(cast(Task, SimpleNamespace(cost=1.0, num_bytes=picture_bytes)))
    job.result = torch.zeros(num_bytes, dtype=torch.uint8)
    job.end("done")
    return job


def request_of(key: str) -> Any:
    return SimpleNamespace(
        headers={"idempotency-key": key}, state=SimpleNamespace(owner=""), url=SimpleNamespace(path="/")
    )


def kept(store: JobStore, jobs: list[Job]) -> list[bool]:
    return [store.find(job.id) is not None for job in jobs]


def test_jobs_and_repeated_requests_have_one_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_store, "MAX_KEPT_BYTES", 3 * RESULT_BYTES)
    store = JobStore(100, 60)
    cache = IdempotencyCache(store)
    jobs = [done_job() for _ in range(6)]
    for index, job in enumerate(jobs):
        if index % 2:
            store.add(job)
        else:
            cache.add(request_of(str(index)), b"hash", job)
    cache.prune()
    assert kept(store, jobs) == [False, False, False, True, True, True]
    assert [cache.find(request_of(str(index)), b"hash") for index in (0, 2, 4)] == [None, None, jobs[4]]
    references = [weakref.ref(job) for job in jobs]
    del jobs, job
    gc.collect()
    assert [reference() is None for reference in references] == [True, True, True, False, False, False]


def test_a_job_is_counted_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_store, "MAX_KEPT_BYTES", 2 * RESULT_BYTES)
    store = JobStore(100, 60)
    jobs = [Job(cast(Task, SimpleNamespace(cost=1.0, num_bytes=0))) for _ in range(4)]
    for job in jobs:
        store.add(job)
    for job in jobs:
        job.result = torch.zeros(RESULT_BYTES, dtype=torch.uint8)
        job.end("done")
    assert kept(store, jobs) == [True] * 4
    store.prune()
    assert kept(store, jobs) == [False, False, True, True]


def test_pictures_that_a_job_started_from_count_and_the_newest_job_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_store, "MAX_KEPT_BYTES", 2 * RESULT_BYTES)
    store = JobStore(100, 60)
    jobs = [done_job(), done_job(picture_bytes=9 * RESULT_BYTES)]
    for job in jobs:
        store.add(job)
    assert kept(store, jobs) == [False, True]


def test_an_old_job_is_forgotten_with_its_key() -> None:
    store = JobStore(100, 60)
    cache = IdempotencyCache(store)
    job = done_job()
    cache.add(request_of("a"), b"hash", job)
    assert cache.find(request_of("a"), b"hash") is job
    with pytest.raises(ApiError, match="was used for another request"):
        cache.find(request_of("a"), b"other")
    job.ended = time.monotonic() - 61
    store.prune()
    assert cache.find(request_of("a"), b"other") is None


def test_jobs_are_forgotten_although_no_other_comes(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "PRUNE_SECONDS", 0.01)
    with live(tiny_model, kept_minutes=0.0) as server:
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as http:
            job = http.post("/api/jobs", json={"prompt": "a", "steps": 1}).json()["id"]
            until(lambda: http.get(f"/api/jobs/{job}").status_code == 404)
