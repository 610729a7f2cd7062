"""The engine: one thread owns the models and runs all jobs together, step by step.

Each turn of its loop removes cancelled and expired jobs, admits waiting ones, and answers the open queries of all jobs
of one model and picture size with one network call, whatever their step, sampler, captions and guidance.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tintype.pipeline.pipeline import Pipeline
from tintype.serving import logs
from tintype.serving.engine.batcher import Batcher
from tintype.serving.engine.failures import failure_of
from tintype.serving.engine.groups import Group, Groups
from tintype.serving.engine.job import Job, Reason
from tintype.serving.engine.metrics import Metrics
from tintype.serving.engine.network_batch import DenoiseCall
from tintype.serving.engine.queue import Queue, Rejected
from tintype.serving.engine.running_job import RunningJob
from tintype.serving.engine.throughput import Throughput
from tintype.serving.engine.writing import Writing, Writings
from tintype.serving.settings import Settings

FATAL = (SystemExit, KeyboardInterrupt)  # these end the engine; every other error, its request alone


class Engine:
    """Runs jobs. Any thread may use `submit`, `cancel` and the properties.

    Args:
        max_waiting_cost: of all waiting jobs together, see `cost_of`.
    """

    def __init__(self, settings: Settings, metrics: Metrics, max_waiting_cost: float) -> None:
        self._metrics = metrics
        self._lock = threading.Condition()
        self._waiting = Queue(settings, max_waiting_cost)
        self._running: list[RunningJob] = []
        self._starting: Job | None = None  # out of the queue, and not in `_running` yet: it counts as running
        self._writings = Writings(settings, metrics)
        self._groups = Groups()
        self._batcher = Batcher(settings.max_batch)
        self._throughput = Throughput()
        self._thread: threading.Thread | None = None
        self._draining = self._stopping = False
        metrics.running.set_function(lambda: self.num_running)  # read when asked, so they are never out of date
        metrics.waiting.set_function(lambda: len(self._waiting))
        self.ready = False
        self.failure = ""  # the error that ended the thread

    def start(self, pipelines: Sequence[Pipeline]) -> None:
        """Start the thread; `ready` becomes true once every pipeline is warm."""
        self._thread = threading.Thread(target=self._run, args=(list(pipelines),), name="engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Append a job to the queue. Raises Rejected."""
        with self._lock:
            self._require_service()
            running = self._running_jobs()
            self._waiting.put(job, running, min(60.0, self._throughput.seconds_to_free_place(running)))
            self._lock.notify()

    def write(self, writing: Writing) -> None:
        """Write a picture token by token, beside the jobs. Raises Rejected."""
        with self._lock:
            self._require_service()
            self._writings.put(writing)
            self._lock.notify()

    def cancel(self, job: Job) -> None:
        """Cancel a job: at once if it waits, after its current step if it runs; no effect once it has ended."""
        job.cancelled.set()
        with self._lock:
            was_waiting = self._waiting.remove(job)
            self._lock.notify()
        if was_waiting:
            self._end(job, "cancelled")

    def drain(self) -> None:
        """Reject new jobs and fail the waiting ones; running jobs continue."""
        with self._lock:
            self._draining = True
            waiting = self._waiting.pop_all()
            self._lock.notify()
        for job in waiting:
            self._fail(job, "shutdown", "the server is shutting down")

    def stop(self, seconds: float = 0.0) -> None:
        """Drain, wait at most `seconds` for the running jobs, and end the thread."""
        self.drain()
        until = time.monotonic() + seconds
        while self.num_running and time.monotonic() < until and self.alive:
            time.sleep(0.02)
        with self._lock:
            self._stopping = True
            self._lock.notify()
        if self._thread is not None:
            self._thread.join(10)

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def draining(self) -> bool:
        """Whether the server stops: it takes no new work."""
        return self._draining

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running_jobs()) + len(self._writings)

    def position(self, job: Job) -> int:
        """Position in the queue, from 1; 0 if the job does not wait."""
        with self._lock:
            return next((position for position, other in enumerate(self._waiting, 1) if other is job), 0)

    def seconds_left(self, job: Job | None = None) -> float | None:
        """Estimated time until a job ends, or for None until all end; None before the first measurement."""
        with self._lock:
            waiting, running = list(self._waiting), self._running_jobs()
        return self._throughput.seconds_left(job, running, waiting)

    def _require_service(self) -> None:
        if self.failure or (self.ready and not self.alive):
            raise Rejected("dead", f"the engine has stopped: {self.failure or 'unknown'}", 30)
        if self._draining:
            raise Rejected("stopping", "the server is shutting down", 10)
        if not self.ready:
            raise Rejected("starting", "the server is still warming up", 2)

    def _running_jobs(self) -> list[Job]:
        starting = [] if self._starting is None else [self._starting]
        return [running.job for running in self._running] + starting

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self, pipelines: list[Pipeline]) -> None:
        try:
            with torch.no_grad():
                self._warm_up(pipelines)
                # Everything imported stays for good, so the garbage collector, which stops all threads, can skip it.
                gc.collect()
                gc.freeze()
                self.ready = True
                while not self._stopping:
                    self._turn()
        except BaseException as error:  # any error at all, since no client may wait forever
            # Without the error's own text: anybody may read this, and the text may name places on the disk.
            self.failure = f"unexpected {type(error).__name__}; the server's log has the details"
            logs.log.critical("the engine has stopped", exc_info=error)
            raise
        finally:
            self._fail_all()

    def _warm_up(self, pipelines: Sequence[Pipeline]) -> None:
        """Measure every model. One that cannot run is logged, and its requests fail; raises if none can run."""
        faults: list[BaseException] = []
        for pipeline in pipelines:
            try:
                batch_size = self._batcher.pixel_limit(pipeline) // pipeline.config.net.resolution**2
                logs.event("warm", model=pipeline.name, batch_size=batch_size)
            except FATAL:
                raise
            except BaseException as error:
                logs.event("cannot_run", model=pipeline.name, error=f"{type(error).__name__}: {error}")
                faults.append(error)
        if faults and len(faults) == len(pipelines):
            raise faults[0]

    def _turn(self) -> None:
        with self._lock:
            while not (self._waiting or self._running or self._writings or self._stopping):
                self._lock.wait()
        self._drop()
        self._admit()
        following = self._groups.next(self._running)
        if following is not None:
            self._advance(*following)
        self._writings.turn()

    def _drop(self) -> None:
        """Remove cancelled and expired jobs."""
        now = time.monotonic()
        with self._lock:
            expired = self._waiting.pop_expired(now)
        for job in expired:
            self._fail(job, "deadline", "timed out while waiting in the queue")
        for running in list(self._running):
            if running.job.cancelled.is_set():
                self._close(running)
                self._end(running.job, "cancelled")
            elif running.job.deadline <= now:
                self._close(running)
                self._fail(running.job, "deadline", "timed out while running")

    def _admit(self) -> None:
        """Start waiting jobs in order while a network call has room; an idle engine always starts the first."""
        while True:
            with self._lock:
                job = self._waiting.first()
            if job is None:
                return
            try:
                has_room, fault = self._has_room(job), None
            except FATAL:
                raise
            except BaseException as error:  # measuring its network failed
                has_room, fault = True, error
            if not has_room:
                return
            with self._lock:
                still_waits = self._waiting.remove(job)
                self._starting = job if still_waits else None
            try:
                if still_waits and fault is not None:
                    self._fail_with(job, fault)
                elif still_waits:
                    self._start(job)
            finally:
                self._starting = None

    def _has_room(self, job: Job) -> bool:
        """Without the lock: this may measure a new network first, and the event loop would wait for that."""
        width, height = job.task.size
        used = sum(2 * other.task.num * other.task.size[0] * other.task.size[1] for other in self._running_jobs())
        limit = self._batcher.pixel_limit(job.task.pipeline)
        return not self._running or used + 2 * width * height <= limit

    def _start(self, job: Job) -> None:
        self._metrics.queue_wait.observe(time.monotonic() - job.created)
        try:
            running = RunningJob(job)
        except FATAL:
            self._fail(job, "dead", "the engine has stopped")
            raise
        except BaseException as error:  # a panic of a library, too, which is no Exception: other models go on
            self._fail_with(job, error)
            return
        with self._lock:  # in one step: whoever counts the jobs finds this one once
            self._running.append(running)
            self._starting = None
        job.start(running.total)

    def _advance(self, group: Group, jobs: list[RunningJob]) -> None:
        """One step for each job of a group."""
        start = time.perf_counter()
        jobs, calls = self._calls_of(jobs)
        try:
            results = self._batcher.denoise(*group, calls)
        except FATAL:
            raise
        except BaseException as error:  # no model's fault stops the engine for the others
            for running in jobs:
                self._close(running)
                self._fail_with(running.job, error)
            return
        seconds = time.perf_counter() - start
        num = sum(len(call) for job_calls in calls for call in job_calls)
        self._throughput.measure(num * group[1][0] * group[1][1], seconds)
        self._metrics.step(num, seconds)
        for running, result in zip(jobs, results, strict=True):
            if isinstance(result, Exception):
                self._close(running)
                self._fail_with(running.job, result)
            else:
                self._step(running, result)

    def _calls_of(self, jobs: list[RunningJob]) -> tuple[list[RunningJob], list[list[DenoiseCall]]]:
        """The network calls of each job, and the jobs that have any: those that cannot say fail."""
        able, calls = [], []
        for running in jobs:
            try:
                calls.append(running.calls())
                able.append(running)
            except FATAL:
                raise
            except BaseException as error:
                self._close(running)
                self._fail_with(running.job, error)
        return able, calls

    def _step(self, running: RunningJob, results: list[Tensor]) -> None:
        """Answer a job's open query with the results of its network calls."""
        job = running.job
        try:
            step = running.step(results)
            if not bool(torch.isfinite(step.denoised).all()):
                self._close(running)
                self._fail(job, "not_finite", "the model produced NaN or infinity; use another checkpoint")
                return
            job.advance(step)
            if job.index == 0 and job.first_preview:
                self._metrics.first_preview.observe(job.first_preview - job.created)
            result = running.send(step.denoised)
            if result is not None:
                job.finish(result)
                self._close(running)
                self._end(job, "done")
        except FATAL:
            raise
        except BaseException as error:
            self._close(running)
            self._fail_with(job, error)

    def _close(self, running: RunningJob) -> None:
        self._running.remove(running)
        running.close()

    def _fail_with(self, job: Job, error: BaseException) -> None:
        self._fail(job, *failure_of(job.id, job.task.pipeline.name, error))

    def _fail(self, job: Job, reason: Reason, message: str) -> None:
        job.end("failed", reason, message)
        self._metrics.ended(job)

    def _end(self, job: Job, status: Literal["done", "cancelled"]) -> None:
        job.end(status)
        self._metrics.ended(job)

    def _fail_all(self) -> None:
        with self._lock:
            jobs = [*self._running_jobs(), *self._waiting.pop_all()]
            self._running = []
        reason: Reason = "shutdown" if self._stopping else "dead"
        message = "the server is shutting down" if self._stopping else "the engine has stopped"
        for job in jobs:
            self._fail(job, reason, message)
        self._writings.fail_all(reason, message)
