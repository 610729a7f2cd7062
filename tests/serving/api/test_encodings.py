"""Encodings: a step or picture is encoded once for all who read it, and the last step is that of the finished job."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from tests.serving.api.test_jobs import finished, submit
from tests.serving.conftest import Held, job_of

from tintype.diffusion.samplers import Step
from tintype.pipeline.pipeline import Pipeline
from tintype.serving.api import encodings
from tintype.serving.api.byte_cache import ByteCache
from tintype.serving.api.encodings import Encodings
from tintype.serving.engine.job import Job


class Counted:
    """A function that remembers its first arguments, and waits until a test releases it."""

    def __init__(self, function: Callable[..., bytes]) -> None:
        self.calls: list[Any] = []
        self.released = threading.Event()
        self._function = function

    def __call__(self, first: Any, *rest: Any) -> bytes:
        self.calls.append(first)
        assert self.released.wait(20)
        return self._function(first, *rest)


@pytest.fixture
def strip_png(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted(encodings.strip_png)
    monkeypatch.setattr(encodings, "strip_png", counted)
    return counted


@pytest.fixture
def encode(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted(encodings.encode)
    counted.released.set()
    monkeypatch.setattr(encodings, "encode", counted)
    return counted


@pytest.fixture
def job(held: tuple[Pipeline, Held]) -> Job:
    """A job of two steps that has made both."""
    job = job_of(held[0], steps=2)
    job.start(2)
    for index in range(2):
        job.advance(Step(index, 2, 1.0, torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), index / 2)))
    return job


def guess(strip: bytes | None) -> np.ndarray[Any, Any]:
    """The guess in a strip of a 16 x 16 picture."""
    assert strip is not None
    return np.asarray(Image.open(io.BytesIO(strip)))[:, 16:32]


def test_a_step_is_encoded_once_for_all_who_read_it(job: Job, strip_png: Counted) -> None:
    async def test() -> None:
        shared = Encodings()
        readers = [asyncio.create_task(shared.step(job, 0)) for _ in range(3)]
        await asyncio.sleep(0.01)
        readers[0].cancel()  # the others still get it
        strip_png.released.set()
        strips = [await readers[1], await readers[2], await shared.step(job, 0)]
        assert strips[0] is strips[1] is strips[2]
        assert len(strip_png.calls) == 1
        assert await shared.step(job, 5) is None

    asyncio.run(test())


def test_the_last_step_is_read_anew_once_the_job_has_finished(job: Job, strip_png: Counted) -> None:
    async def test() -> None:
        strip_png.released.set()
        shared = Encodings()
        assert [job.is_final(index) for index in range(2)] == [True, False]
        early = [guess(await shared.step(job, index)) for index in range(2)]
        job.finish(-torch.ones(1, 3, 16, 16))
        late = [guess(await shared.step(job, index)) for index in range(2)]
        assert (late[0] == early[0]).all()
        assert early[1].min() > 128
        assert late[1].max() == 0
        assert len(strip_png.calls) == 3
        await shared.step(job, 1)
        assert len(strip_png.calls) == 3

    asyncio.run(test())


def test_an_encoding_that_fails_may_be_asked_for_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        shared = Encodings()
        with monkeypatch.context() as patched:
            patched.setattr(encodings, "strip_png", None)
            with pytest.raises(TypeError):
                await shared.step(job, 0)
        assert await shared.step(job, 0) is not None

    asyncio.run(test())


def test_a_picture_and_its_steps_are_encoded_once_over_http(
    http: httpx.Client, encode: Counted, strip_png: Counted
) -> None:
    strip_png.released.set()
    job = finished(http, submit(http, n=2, steps=3, seed=1)["id"])
    strip_png.calls.clear()
    names = [f"steps/{index}.png" for index in (0, 2)] + [f"pictures/{row}.png" for row in range(2)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: http.get(f"/api/jobs/{job['id']}/{name}"), 3 * names))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 4
    assert {answer.headers["cache-control"] for answer in answers} == {"private, max-age=3600, immutable"}
    assert len(encode.calls) == 2
    assert len(strip_png.calls) <= 2  # none that the readers of its states have asked for


def test_a_repeated_request_is_not_encoded_again(http: httpx.Client, encode: Counted) -> None:
    body = {"prompt": "a red circle", "steps": 2, "n": 2, "output_format": "webp"}
    answers = [
        http.post("/v1/images/generations", json=body, headers={"Idempotency-Key": "encoded-once"}) for _ in range(2)
    ]
    assert answers[0].json()["data"] == answers[1].json()["data"]
    assert len(encode.calls) == 2


def test_a_cache_keeps_the_files_that_were_read_last() -> None:
    cache = ByteCache(10)
    for key in "abc":
        cache.add(key, b"1234")
    assert [cache.get(key) for key in "abc"] == [None, b"1234", b"1234"]
    assert cache.get("b") == b"1234"
    cache.add("d", b"1234")
    assert [cache.get(key) for key in "bcd"] == [b"1234", None, b"1234"]
    cache.add("d", b"123456")
    assert [cache.get(key) for key in "bd"] == [b"1234", b"123456"]
    cache.add("e", b"12345678901")
    assert [cache.get(key) for key in "bde"] == [None, None, None]
