"""The engine: what it admits, how long a job may run, and how it stops."""

from __future__ import annotations

import threading

import pytest
import torch
from tests.serving.conftest import EngineOf, Ready, job_of, over, until

from tintype.diffusion.samplers import SAMPLERS
from tintype.errors import CheckpointError, ConfigError
from tintype.serving.engine.job import Job
from tintype.serving.engine.queue import Rejected
from tintype.serving.engine.running_job import RunningJob


def test_the_queue_is_bounded_by_number_cost_and_key(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline, max_batch=1, max_waiting=2)
    denoiser.hold()
    engine.submit(job_of(pipeline))
    until(lambda: engine.num_running == 1)
    engine.submit(job_of(pipeline))
    engine.submit(job_of(pipeline))
    with pytest.raises(Rejected) as refused:
        engine.submit(job_of(pipeline))
    assert refused.value.reason == "queue"
    assert refused.value.retry_after > 0


def test_cost_bounds_the_queue_but_never_a_single_request(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline, max_batch=1)
    engine._waiting._max_cost = job_of(pipeline).task.cost * 1.5
    denoiser.hold()
    engine.submit(job_of(pipeline))
    until(lambda: engine.num_running == 1)
    engine.submit(job_of(pipeline, ["a"] * 3))
    with pytest.raises(Rejected) as refused:
        engine.submit(job_of(pipeline))
    assert refused.value.reason == "cost"


def test_one_key_cannot_take_every_place(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline, max_open_per_key=1, api_keys=("a-long-key", "b-long-key"))
    denoiser.hold()
    jobs = [job_of(pipeline) for _ in range(3)]
    for job, owner in zip(jobs, ("key-0", "key-0", "key-1"), strict=True):
        job.owner = owner
    engine.submit(jobs[0])
    with pytest.raises(Rejected) as refused:
        engine.submit(jobs[1])
    assert refused.value.reason == "key"
    engine.submit(jobs[2])


def test_a_job_that_is_being_started_counts(held: Ready, engine_of: EngineOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the queue and its first step a job belongs to its key, too."""
    pipeline, _ = held
    engine = engine_of(pipeline, max_open_per_key=1, api_keys=("a-long-key",))
    entered, go_on = threading.Event(), threading.Event()

    def slow_start(job: Job) -> RunningJob:
        entered.set()
        assert go_on.wait(20)
        return RunningJob(job)

    monkeypatch.setattr("tintype.serving.engine.engine.RunningJob", slow_start)
    jobs = [job_of(pipeline) for _ in range(2)]
    engine.submit(jobs[0])
    assert entered.wait(20)
    with pytest.raises(Rejected) as refused:
        engine.submit(jobs[1])
    assert refused.value.reason == "key"
    assert (engine.num_running, engine.num_waiting) == (1, 0)
    go_on.set()
    over(jobs[0])
    assert jobs[0].status == "done"


def test_a_deadline_ends_what_waits_and_what_runs(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline, max_batch=1)
    denoiser.hold()
    running, waiting = job_of(pipeline, steps=50), job_of(pipeline)
    engine.submit(running)
    until(lambda: running.status == "running")
    engine.submit(waiting)
    running.deadline = waiting.deadline = 0.0
    denoiser.allow(2)
    over(running, waiting)
    assert {running.reason, waiting.reason} == {"deadline"}


def test_stopping_refuses_the_new_fails_what_waits_and_finishes_what_runs(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline, max_batch=1)
    denoiser.hold()
    running, waiting = job_of(pipeline), job_of(pipeline)
    engine.submit(running)
    until(lambda: running.status == "running")
    engine.submit(waiting)
    stopping = threading.Thread(target=engine.stop, args=(20.0,))
    stopping.start()
    over(waiting)
    assert waiting.reason == "shutdown"
    with pytest.raises(Rejected) as refused:
        engine.submit(job_of(pipeline))
    assert refused.value.reason == "stopping"
    denoiser.release()
    stopping.join(20)
    assert running.status == "done"


def test_stopping_in_no_time_gives_up_what_runs(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline)
    denoiser.hold()
    job = job_of(pipeline, steps=50)
    engine.submit(job)
    until(lambda: job.status == "running")
    denoiser.allow(5)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    until(lambda: engine._stopping)
    denoiser.allow(5)
    over(job)
    assert job.reason == "shutdown"
    stopping.join(10)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_request_costs_what_its_sampler_evaluates(sampler: str, held: Ready) -> None:
    pipeline, _ = held
    job = job_of(pipeline, sampler=sampler, steps=5, guidance=1.0)
    pixels = job.task.size[0] * job.task.size[1]
    evaluations = {"heun": 9, "heun_churn": 9, "reference": 17, "etdrk4": 17}.get(sampler, 5)
    assert job.cost == evaluations * pixels


def test_large_requests_of_one_key_leave_room_for_another(held: Ready, engine_of: EngineOf) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline, max_batch=1, api_keys=("a-long-key", "b-long-key"))
    engine._waiting._max_cost = 8 * job_of(pipeline).cost
    denoiser.hold()
    jobs = [job_of(pipeline) for _ in range(6)]
    for job in jobs:
        job.owner = "key-0"
    engine.submit(jobs[0])
    until(lambda: engine.num_running == 1)
    for job in jobs[1:5]:
        engine.submit(job)
    with pytest.raises(Rejected) as refused:
        engine.submit(jobs[5])
    assert (refused.value.reason, engine.num_waiting) == ("key", 4)
    other = job_of(pipeline)
    other.owner = "key-1"
    engine.submit(other)
    assert engine.num_waiting == 5


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CheckpointError("cannot read /secret/encoder/config.json"), "the model cannot make this"),
        (OSError(2, "No such file", "/secret/encoder"), "unexpected FileNotFoundError"),
        (ConfigError("steps must be 3"), "steps must be 3"),
    ],
)
def test_a_failed_job_names_no_place_on_the_disk(
    error: Exception, words: str, held: Ready, engine_of: EngineOf, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline, denoiser = held
    engine = engine_of(pipeline)

    def fail(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        raise error

    denoiser.fault = fail
    job = job_of(pipeline)
    engine.submit(job)
    over(job)
    assert job.status == "failed"
    assert words in job.message
    assert "secret" not in job.message
    assert ("secret" in caplog.text) == ("secret" in str(error))
