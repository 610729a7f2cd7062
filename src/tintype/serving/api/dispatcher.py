"""The dispatcher: turns request bodies into tasks for the engine, and the engine's failures into API errors."""

from __future__ import annotations

import asyncio
import time

from fastapi import Request as HttpRequest
from PIL import Image

from tintype.model.nets.legibility import ILLEGIBLE, named
from tintype.pipeline.pipeline import Pipeline
from tintype.printable import printable
from tintype.serving import logs
from tintype.serving.api.decoding import DecodingPlaces
from tintype.serving.api.encodings import Encodings
from tintype.serving.api.errors import ApiError, bad_request
from tintype.serving.api.idempotency import GRACE_SECONDS, IdempotencyCache, has_key, hash_request
from tintype.serving.api.job_store import JobStore
from tintype.serving.api.sampling_request import to_request
from tintype.serving.api.schemas import GenerateBody
from tintype.serving.catalog import Catalog
from tintype.serving.engine.engine import Engine
from tintype.serving.engine.job import GenerateTask, Job, PreviewSteps, Reason, Status, Task
from tintype.serving.engine.metrics import Metrics
from tintype.serving.engine.queue import Rejected
from tintype.serving.settings import Settings

SSE_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
_OVERLOADED = ("queue", "cost", "key")


class Dispatcher:
    """The part that all routes share: models, engine, settings and repeated requests."""

    def __init__(self, catalog: Catalog, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self.catalog = catalog
        self.engine = engine
        self.settings = settings
        self.metrics = metrics
        self.started = int(time.time())
        self.decoding = DecodingPlaces()
        self.encodings = Encodings()
        self.store = JobStore(settings.kept_jobs, 60 * settings.kept_minutes)
        self._idempotency = IdempotencyCache(self.store)
        self._abandoning: set[asyncio.Task[None]] = set()

    def pipeline(self, model: str | None) -> Pipeline:
        """A model by name; None is the first. Raises ApiError."""
        pipeline = self.catalog.get(model)
        if pipeline is None and model is None:
            message = "no model is ready: the run has not saved a checkpoint yet; try again later"
            raise ApiError(503, message, "not_ready", retry_after=30)
        if pipeline is None:
            names = ", ".join((*self.catalog.pipelines, *self.catalog.aliases))
            raise ApiError(404, f"unknown model; this server has {names}", "model_not_found", "model")
        return pipeline

    async def generate_task(
        self, body: GenerateBody, init_image: Image.Image | None = None, mask: Image.Image | None = None
    ) -> GenerateTask:
        """The task for a request body. Raises ApiError."""
        pipeline = self.pipeline(body.model)
        if init_image is None and mask is None:
            request = to_request(body, pipeline, self.settings)
        else:  # resizing an image may take a while, so not on the event loop
            request = await self.decoding.run(to_request, body, pipeline, self.settings, init_image, mask)
        task = GenerateTask(pipeline, request)
        if task.cost > self.settings.cost_limit(pipeline.config):
            raise bad_request(
                "request too large: n x size x steps x evaluations per step (heun 2, reference 4) is over the server's "
                "limit; ask for less, or use another sampler",
                "n",
                "request_too_large",
            )
        return task

    async def request_hash(self, request: HttpRequest, body: GenerateBody, *files: bytes) -> bytes:
        """The hash of a request that has an Idempotency-Key, else nothing. Raises ApiError."""
        return await asyncio.to_thread(hash_request, body, *files) if has_key(request) else b""

    def submit(
        self,
        task: Task,
        request: HttpRequest,
        *,
        seconds: float,
        previews: PreviewSteps | None = None,
        keep_frames: bool = False,
        request_hash: bytes = b"",
    ) -> Job:
        """Submit a task to the engine, or find the job of the request that this one repeats (see IdempotencyCache).

        request_hash: from `request_hash`; empty for a request that has no key. Raises ApiError: 429 if the queue is
        full, 503 if the engine does not run.
        """
        repeated = self._idempotency.find(request, request_hash) if request_hash else None
        if repeated is not None:
            return repeated
        job = Job(task, owner=request.state.owner, seconds=seconds, previews=previews, keep_frames=keep_frames)
        try:
            self.engine.submit(job)
        except Rejected as rejected:
            raise rejection_error(self.metrics, rejected) from None
        self._log(job, request)
        if request_hash:
            self._idempotency.add(request, request_hash, job)
        return job

    def prune(self) -> None:
        """Forget finished jobs beyond the limits on number, age and bytes."""
        self.store.prune()
        self._idempotency.prune()

    def abandon(self, job: Job) -> None:
        """Cancel a job that lost its reader; with an Idempotency-Key, after GRACE_SECONDS without another reader."""
        if not self._idempotency.release(job):
            self.engine.cancel(job)
        elif job.open:
            task = asyncio.create_task(self._abandon_later(job))
            self._abandoning.add(task)
            task.add_done_callback(self._abandoning.discard)

    async def _abandon_later(self, job: Job) -> None:
        await asyncio.sleep(GRACE_SECONDS)
        if not self._idempotency.has_readers(job):
            self.engine.cancel(job)

    def _log(self, job: Job, request: HttpRequest) -> None:
        fields: dict[str, object] = {
            "job": job.id,
            "request_id": request.state.request_id,
            "model": job.task.pipeline.name,
        }
        if isinstance(job.task, GenerateTask):
            sampled = job.task.request
            fields |= {"num": len(sampled), "size": f"{sampled.width}x{sampled.height}", "steps": sampled.steps}
            if self.settings.log_prompts:
                fields["prompt"] = sampled.captions[0]
        logs.event("submitted", **fields)


def rejection_error(metrics: Metrics, rejected: Rejected) -> ApiError:
    """The error of a request that the engine does not accept, which is counted."""
    metrics.rejected.labels(rejected.reason).inc()
    overloaded = rejected.reason in _OVERLOADED
    status, code = (429, "slow_down") if overloaded else (503, "server_is_overloaded")
    return ApiError(status, str(rejected), code, retry_after=rejected.retry_after)


def job_error(job: Job) -> ApiError:
    """The error of a job that ended without a result."""
    return failure_error(job.status, job.reason, job.message)


def failure_error(status: Status, reason: Reason | None, message: str) -> ApiError:
    """The error of work in the engine that ended without a result."""
    if status == "cancelled":
        return ApiError(409, "the request was cancelled", "cancelled", final=True)
    if reason == "deadline":
        return ApiError(504, message, "timeout", retry_after=10)
    if reason == "memory":
        return ApiError(503, message, "out_of_memory", retry_after=10)
    if reason in ("shutdown", "dead"):
        return ApiError(503, message, "server_is_overloaded", retry_after=10)
    return ApiError(500, message or "the request failed", "generation_failed", final=True)


def warning(job: Job) -> str:
    """What a client should know about a job that it did not ask for; "" for nothing."""
    notes = list(job.task.request.notes) if isinstance(job.task, GenerateTask) else []
    if job.num_cut:
        limit = job.task.pipeline.config.text.max_tokens
        notes.append(f"the caption is longer than the {limit} tokens that this model reads; the rest was ignored")
    if job.illegible:
        notes.append(printable(ILLEGIBLE.format(named(job.illegible))))
    return ". ".join(notes)


def warning_header(job: Job) -> dict[str, str]:
    """The warning as a header; none without one."""
    text = warning(job).encode("ascii", "backslashreplace").decode()
    return {"x-tintype-warning": text} if text else {}
