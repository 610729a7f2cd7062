"""The engine: one thread owns the models and answers the open questions of all requests together, step by step.

Each turn of its loop drops what was cancelled or is late, admits what waits, and answers all open questions of one
model and picture size with one call of the network, whatever step, sampler, caption and guidance each belongs to.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tintype.diffusion.samplers import Query, Step
from tintype.errors import TintypeError
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.sampling_task import SamplingTask
from tintype.serving import logs
from tintype.serving.engine.batcher import Answerer, Size
from tintype.serving.engine.job import Reason, Work
from tintype.serving.engine.metrics import Metrics
from tintype.serving.engine.network_batch import Exchange, Question
from tintype.serving.engine.queue import Queue, Refused
from tintype.serving.engine.throughput import Pace
from tintype.serving.settings import Settings
from tintype.training.core.device import is_out_of_memory

Group = tuple[Pipeline, Size]  # pictures that fit into one call


@dataclass(eq=False, slots=True)
class _Open:
    """A work that runs."""

    work: Work
    exchange: Exchange
    sampling: SamplingTask
    query: Query
    questions: list[Question] = field(default_factory=list)


class Engine:
    """Runs works. `submit`, `cancel` and the properties may be used from any thread.

    Args:
        max_waiting_cost: of all works that wait, see `cost_of`.
    """

    def __init__(self, settings: Settings, metrics: Metrics, max_waiting_cost: float) -> None:
        self._metrics = metrics
        self._lock = threading.Condition()
        self._waiting = Queue(settings, max_waiting_cost)
        self._running: list[_Open] = []
        self._turns: dict[Group, int] = {}  # when each group was last answered
        self._num_turns = 0
        self._answerer = Answerer(settings.max_batch)
        self._pace = Pace()
        self._thread: threading.Thread | None = None
        self._draining = self._stopping = False
        self.ready = False
        self.failure = ""  # why the thread died

    def start(self, pipelines: Sequence[Pipeline]) -> None:
        """Start the thread; `ready` once every pipeline has been tried out."""
        self._thread = threading.Thread(target=self._run, args=(list(pipelines),), name="engine", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> None:
        """Put a work at the end of the queue. Raises Refused."""
        with self._lock:
            self._require_service()
            self._waiting.put(work, self._running_works(), min(60.0, self._pace.clearing(self._running_works())))
            self._metrics.waiting.set(len(self._waiting))
            self._lock.notify()

    def cancel(self, work: Work) -> None:
        """Give a work up: at once if it waits, else after the step it is in."""
        work.cancelled.set()
        with self._lock:
            waiting = self._waiting.remove(work)
            self._metrics.waiting.set(len(self._waiting))
            self._lock.notify()
        if waiting:
            self._end(work, "cancelled")

    def drain(self) -> None:
        """Admit nothing more; what waits fails, what runs goes on."""
        with self._lock:
            self._draining = True
            waiting = self._waiting.clear()
            self._metrics.waiting.set(0)
            self._lock.notify()
        for work in waiting:
            self._fail(work, "shutdown", "the server is shutting down")

    def stop(self, seconds: float = 0.0) -> None:
        """Drain, give what runs so many seconds, and end the thread."""
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
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    def position(self, work: Work) -> int:
        """Place in the queue, from 1; 0 if it does not wait."""
        with self._lock:
            return next((place for place, other in enumerate(self._waiting, 1) if other is work), 0)

    def seconds_left(self, work: Work | None = None) -> float | None:
        """A guess from the speed so far: until a work is done, or until all are. None before anything was measured."""
        with self._lock:
            waiting, running = list(self._waiting), self._running_works()
        return self._pace.seconds_left(work, running, waiting)

    def _require_service(self) -> None:
        if self.failure or (self.ready and not self.alive):
            raise Refused("dead", f"the engine has stopped: {self.failure or 'unknown'}", 30)
        if self._draining:
            raise Refused("stopping", "the server is shutting down", 10)
        if not self.ready:
            raise Refused("starting", "the server is still warming up", 2)

    def _running_works(self) -> list[Work]:
        return [open_.work for open_ in self._running]

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self, pipelines: list[Pipeline]) -> None:
        try:
            with torch.no_grad():
                for pipeline in pipelines:
                    num = self._answerer.limit(pipeline) // pipeline.config.net.resolution**2
                    logs.event("warm", model=pipeline.name, pictures_in_one_call=num)
                # Everything imported stays for good: the collector, which stops all threads, need not look at it again.
                gc.collect()
                gc.freeze()
                self.ready = True
                while not self._stopping:
                    self._turn()
        except BaseException as error:  # whatever it was, nobody may wait for ever
            self.failure = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._abandon()

    def _turn(self) -> None:
        with self._lock:
            while not (self._waiting or self._running or self._stopping):
                self._lock.wait()
        self._drop()
        self._admit()
        self._metrics.running.set(len(self._running))
        groups: dict[Group, list[_Open]] = {}
        for open_ in self._running:
            groups.setdefault((open_.work.task.pipeline, open_.work.task.size), []).append(open_)
        if groups:
            chosen = min(groups, key=lambda group: self._turns.get(group, -1))
            self._num_turns += 1
            self._turns = {group: turn for group, turn in self._turns.items() if group in groups}
            self._turns[chosen] = self._num_turns
            self._advance(chosen, groups[chosen])

    def _drop(self) -> None:
        now = time.monotonic()
        with self._lock:
            late = self._waiting.late(now)
            self._metrics.waiting.set(len(self._waiting))
        for work in late:
            self._fail(work, "deadline", "it was not made in time: too many requests were before it")
        for open_ in list(self._running):
            if open_.work.cancelled.is_set():
                self._close(open_)
                self._end(open_.work, "cancelled")
            elif open_.work.deadline <= now:
                self._close(open_)
                self._fail(open_.work, "deadline", "it was not made in time")

    def _admit(self) -> None:
        """Let in what waits, in order, as long as one call has room; whatever comes first always gets in."""
        while True:
            with self._lock:
                work = self._waiting.first()
            if work is None or not self._has_room(work):
                return
            with self._lock:
                still_waits = self._waiting.remove(work)
                self._metrics.waiting.set(len(self._waiting))
            if still_waits:
                self._begin(work)

    def _has_room(self, work: Work) -> bool:
        """Not under the lock: a network that is new here is measured first, and the event loop would wait for that."""
        width, height = work.task.size
        used = sum(2 * o.work.task.num * o.work.task.size[0] * o.work.task.size[1] for o in self._running)
        limit = self._answerer.limit(work.task.pipeline)
        return not self._running or used + 2 * width * height <= limit

    def _begin(self, work: Work) -> None:
        exchange = Exchange()
        self._metrics.queue_wait.observe(time.monotonic() - work.created)
        try:
            begun = work.task.begin(exchange.given)
            query = next(begun.sampling.coroutine)
        except Exception as error:
            self._fail_with(work, error)
            return
        work.num_cut = begun.num_cut
        mask = exchange.conds[0].mask
        work.text_tokens = int(mask.sum()) - len(mask)  # without the token that begins every caption
        self._running.append(_Open(work, exchange, begun.sampling, query))
        work.begin(begun.sampling.total)

    def _advance(self, group: Group, opens: list[_Open]) -> None:
        started = time.perf_counter()
        for open_ in opens:
            open_.questions = open_.exchange.ask(open_.sampling.denoise, open_.query)
        answers = self._answerer.answer(*group, [open_.questions for open_ in opens])
        seconds = time.perf_counter() - started
        num = sum(len(question) for open_ in opens for question in open_.questions)
        self._pace.measure(num * group[1][0] * group[1][1], seconds)
        self._metrics.step(num, seconds)
        for open_, told in zip(opens, answers, strict=True):
            if isinstance(told, Exception):
                self._close(open_)
                self._fail_with(open_.work, told)
            else:
                self._send(open_, told)

    def _send(self, open_: _Open, answers: list[Tensor]) -> None:
        """Give a coroutine its answer, and hear its next question or its result."""
        work, query = open_.work, open_.query
        try:
            denoised = open_.exchange.tell(open_.sampling.denoise, query, answers)
            if not bool(torch.isfinite(denoised).all()):
                self._close(open_)
                self._fail(work, "not_finite", "the model gave values that are not numbers; use another checkpoint")
                return
            index = work.index + 1 if open_.sampling.index is None else open_.sampling.index()
            work.advance(Step(index, open_.sampling.total, float(query.sigma[0]), query.x, denoised))
            if work.index == 0 and work.first_shown:
                self._metrics.first_preview.observe(work.first_shown - work.created)
            open_.query = open_.sampling.coroutine.send(denoised)
        except StopIteration as finished:
            work.result = finished.value.cpu()
            self._close(open_)
            self._end(work, "done")
        except Exception as error:
            self._close(open_)
            self._fail_with(work, error)

    def _close(self, open_: _Open) -> None:
        self._running.remove(open_)
        open_.sampling.coroutine.close()

    def _fail_with(self, work: Work, error: Exception) -> None:
        if is_out_of_memory(error):
            self._fail(work, "memory", "there is not enough memory for this")
        else:
            message = str(error) if isinstance(error, TintypeError) else f"unexpected {type(error).__name__}"
            self._fail(work, "error", message)

    def _fail(self, work: Work, reason: Reason, message: str) -> None:
        work.end("failed", reason, message)
        self._metrics.ended(work)

    def _end(self, work: Work, status: str) -> None:
        work.end("done" if status == "done" else "cancelled")
        self._metrics.ended(work)

    def _abandon(self) -> None:
        with self._lock:
            left = [*self._running_works(), *self._waiting.clear()]
            self._running = []
        self._metrics.running.set(0)
        self._metrics.waiting.set(0)
        reason: Reason = "shutdown" if self._stopping else "dead"
        for work in left:
            self._fail(work, reason, "the server is shutting down" if self._stopping else "the engine has stopped")
