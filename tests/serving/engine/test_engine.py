"""The engine: pictures do not depend on who else is served, and nothing that happens to one request touches another."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.serving.conftest import EngineOf, Held, Ready, done, job_of, over, until

from tintype.diffusion.samplers import finish
from tintype.errors import TintypeError
from tintype.pipeline.pipeline import Pipeline
from tintype.serving.engine.job import Job

LEVEL = 2 / 255 * 1.001  # one step of a pixel, in x0


def alone(job: Job) -> torch.Tensor:
    """What the pipeline itself makes, as the command line does."""
    return finish(job.task.pipeline.run(job.task.request))  # type: ignore[attr-defined]


REQUESTS: list[dict[str, Any]] = [
    {"seeds": 1},
    {"captions": "a blue square left of a green star", "seeds": 2, "steps": 7, "guidance": 1.0},
    {"captions": "東京", "seeds": 3, "sampler": "heun", "guidance": 7.5, "negative": "a red circle"},
    {"captions": ["a", "ein Haus am See", ""], "seeds": 4, "sampler": "euler_ancestral", "steps": 9},
    {"captions": "a", "seeds": 5, "width": 32, "height": 16},
    {"captions": "a red circle", "seeds": 6, "init_image": Image.new("RGB", (16, 16), "teal"), "strength": 0.7,
     "mask": Image.linear_gradient("L").resize((16, 16))},
]  # fmt: skip


def test_every_request_is_the_picture_the_pipeline_makes_alone(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline)
    jobs = [job_of(pipeline, **{"captions": "a red circle", **options}) for options in REQUESTS]
    denoiser.hold()
    for job in jobs:
        engine.submit(job)
    denoiser.release()
    for job in jobs:
        assert (done(job) - alone(job)).abs().max() <= LEVEL
    assert max(denoiser.calls) > 4  # they did share calls


def test_nobody_waits_while_a_new_network_is_measured(
    held: Ready, engine_of: EngineOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, _ = held
    engine = engine_of(pipeline)
    measuring, done = threading.Event(), threading.Event()

    def slowly(pipeline: Pipeline) -> int:
        measuring.set()
        assert done.wait(30)
        return 10**6

    monkeypatch.setattr(engine._batcher, "pixel_limit", slowly)
    job = job_of(pipeline, steps=2)
    engine.submit(job)
    assert measuring.wait(30)
    caller = threading.Thread(target=engine.position, args=(job,))
    caller.start()
    caller.join(5)
    assert not caller.is_alive()
    done.set()
    until(lambda: not job.open)
    assert job.status == "done"


def test_strangers_that_join_and_leave_midway_change_nothing(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline)
    expected = alone(job_of(pipeline, steps=12, seeds=9))
    denoiser.calls.clear()
    denoiser.hold()
    job = job_of(pipeline, steps=12, seeds=9)
    engine.submit(job)
    denoiser.allow(4)
    until(lambda: job.index == 3)
    strangers = [job_of(pipeline, caption, steps=20, seeds=i) for i, caption in enumerate(["a", "東京", "b c d e f"])]
    for stranger in strangers:
        engine.submit(stranger)
    denoiser.allow(3)
    until(lambda: job.index == 6)
    engine.cancel(strangers[1])
    denoiser.release()
    assert (done(job) - expected).abs().max() <= LEVEL
    assert strangers[1].status == "cancelled"
    done(strangers[0])
    done(strangers[2])
    assert max(denoiser.calls) > 2  # they did share calls: alone, a picture has two answers at most


def test_a_request_larger_than_a_call_is_spread_over_several(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline, max_batch=3)
    job = job_of(pipeline, ["a", "b", "c", "d", "e"], seeds=1)
    denoiser.calls.clear()
    engine.submit(job)
    assert (done(job) - alone(job)).abs().max() <= LEVEL
    assert max(denoiser.calls[:8]) <= 3


def test_cancelled_work_stops_after_the_step_it_is_in(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline)
    denoiser.hold()
    job = job_of(pipeline, steps=50)
    engine.submit(job)
    denoiser.allow(3)
    until(lambda: job.index == 2)
    calls = len(denoiser.calls)
    engine.cancel(job)
    denoiser.allow(1)  # the call it may be in
    over(job)
    assert job.status == "cancelled"
    assert len(denoiser.calls) <= calls + 1
    assert engine.num_running == 0


def test_what_waits_is_cancelled_at_once(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline, max_batch=1)
    denoiser.hold()
    first, second = job_of(pipeline), job_of(pipeline)
    engine.submit(first)
    until(lambda: engine.num_running == 1)
    engine.submit(second)
    assert engine.position(second) == 1
    engine.cancel(second)
    assert second.status == "cancelled"
    assert engine.num_waiting == 0


def faulty(pipeline: Pipeline, denoiser: Held, fault: Any) -> Job:
    """A job that the fault is for: the only one with a picture at noise level 80 and this seed."""
    job = job_of(pipeline, "the culprit", seeds=666)
    start = next(pipeline.sampling_task(job.task.request, denoiser.conditioned).coroutine).x  # type: ignore[attr-defined]

    def strike(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor | None:
        hit = [(row - start[0]).abs().max() < 1e-6 for row in x]
        return fault(x, hit) if any(hit) else None

    denoiser.fault = strike
    return job


def raising(x: torch.Tensor, hit: list[bool]) -> torch.Tensor:
    raise RuntimeError("a bug in the network")


def memory(x: torch.Tensor, hit: list[bool]) -> torch.Tensor:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def nan(x: torch.Tensor, hit: list[bool]) -> torch.Tensor:
    return torch.stack(
        [torch.full_like(row, float("nan")) if bad else row / 100 for row, bad in zip(x, hit, strict=True)]
    )


@pytest.mark.parametrize(("fault", "reason"), [(raising, "error"), (memory, "memory"), (nan, "not_finite")])
def test_what_goes_wrong_for_one_request_touches_no_other(
    fault: Any, reason: str, held: Ready, engine_of: EngineOf
) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline)
    denoiser.hold()
    blocker = job_of(pipeline, steps=1)  # so that the others begin together
    engine.submit(blocker)
    until(lambda: engine.num_running == 1)
    culprit = faulty(pipeline, denoiser, fault)
    others = [job_of(pipeline, seeds=seed) for seed in (1, 2)]
    for job in (others[0], culprit, others[1]):
        engine.submit(job)
    denoiser.release()
    over(culprit, *others)
    assert (culprit.status, culprit.reason) == ("failed", reason)
    assert "\n" not in culprit.message
    for job in others:
        done(job)
    if fault is not nan:
        denoiser.fault = None
        for job in others:
            assert (done(job) - alone(job)).abs().max() <= LEVEL
    assert engine.alive


def test_a_call_too_large_for_memory_is_halved_and_made_again(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline, max_batch=16)

    def small_memory(x: torch.Tensor, sigma: torch.Tensor) -> None:
        if len(x) > 8:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    job = job_of(pipeline, ["a"] * 8, seeds=3)
    expected = alone(job)
    denoiser.calls.clear()
    denoiser.fault = small_memory
    engine.submit(job)
    assert (done(job) - expected).abs().max() <= LEVEL
    assert [size for size in denoiser.calls if size > 8] == [16]


def test_a_caption_that_cannot_be_read_fails_alone(
    held: Ready, engine_of: EngineOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, _ = held
    engine = engine_of(pipeline)
    encode = pipeline.encode

    def broken(captions: Any) -> Any:
        if "broken" in captions:
            raise TintypeError("no such words")
        return encode(captions)

    monkeypatch.setattr(pipeline, "encode", broken)
    bad, good = job_of(pipeline, "broken"), job_of(pipeline)
    engine.submit(bad)
    engine.submit(good)
    done(good)
    over(bad)
    assert (bad.status, bad.message) == ("failed", "no such words")


def test_two_sizes_take_turns(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline, max_batch=64)
    denoiser.hold()
    small, large = job_of(pipeline, steps=30), job_of(pipeline, steps=30, width=32, height=32)
    engine.submit(small)
    until(lambda: engine.num_running == 1)
    engine.submit(large)
    denoiser.allow(21)
    until(lambda: small.index + large.index >= 18)
    assert abs(small.index - large.index) <= 2


def test_every_step_is_kept_for_the_page(held: Ready, engine_of: EngineOf) -> None:
    pipeline, _ = held
    engine = engine_of(pipeline)
    job = job_of(pipeline, ["a", "b"], steps=6)
    engine.submit(job)
    done(job)
    steps = list(pipeline.stream(["a", "b"], steps=6, seeds=0))
    assert sorted(job.frames) == list(range(6))
    assert [job.frames[i].sigma for i in range(6)] == [step.sigma for step in steps]
    guess = pipeline.codec.decode(steps[2].denoised)
    assert (job.frames[2].guess.int() - guess.int()).abs().max() <= 1


@pytest.mark.slow
def test_many_random_cancellations_leave_nothing_behind(held: Ready, engine_of: EngineOf) -> None:
    pipeline, _ = held
    engine = engine_of(pipeline, max_waiting=1000)
    chance = random.Random(0)
    jobs = [job_of(pipeline, steps=chance.randint(1, 12), seeds=i) for i in range(60)]
    for job in jobs:
        engine.submit(job)
        if chance.random() < 0.6:
            engine.cancel(chance.choice(jobs))
    over(*jobs)
    assert {job.status for job in jobs} <= {"done", "cancelled"}
    until(lambda: engine.num_running == engine.num_waiting == 0)


@pytest.mark.slow
def test_the_batch_is_measured_when_it_is_not_given(tiny_model: Path, engine_of: EngineOf) -> None:
    pipeline = Pipeline.load(tiny_model, "cpu")
    engine = engine_of(pipeline, max_batch=None)
    assert engine._batcher.pixel_limit(pipeline) >= pipeline.config.net.resolution**2
    job = job_of(pipeline)
    engine.submit(job)
    assert (done(job) - alone(job)).abs().max() <= LEVEL
