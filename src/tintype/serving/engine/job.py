"""Jobs: one request in the engine, its task, its progress and its result.

Every HTTP request that calls the network becomes one `Job`. `POST /api/jobs` hands its id to the client; the other
routes wait for their job and answer with its result. The engine's thread writes a job, the event loop reads it.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from tintype.diffusion.samplers import Step, num_evaluations
from tintype.pipeline.guided_denoiser import request_texts
from tintype.pipeline.pipeline import ConditionalDenoiser, Pipeline
from tintype.pipeline.request import Request
from tintype.pipeline.sampling_task import SamplingTask
from tintype.pipeline.start import request_sampler, request_sigmas
from tintype.serving.settings import cost_of
from tintype.view.contact_sheet import Frame, frame, visible

Status = Literal["waiting", "running", "done", "failed", "cancelled"]
Reason = Literal["error", "not_finite", "memory", "deadline", "shutdown", "dead"]
PreviewSteps = Callable[[int], Collection[int]]  # number of steps -> indices of the steps to keep a frame of
MAX_PREVIEW_SIDE = 512  # pixels; frames of larger pictures are subsampled
MAX_FRAME_BYTES = 64 * 2**20  # of one job's frames
INVERSION_EVALUATIONS = 6  # about, per noise level, while a picture is inverted


class Task(Protocol):
    """A computation for the engine: a coroutine over pictures of one size."""

    @property
    def pipeline(self) -> Pipeline:
        """The model."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""

    @property
    def num(self) -> int:
        """Number of pictures, B."""

    @property
    def cost(self) -> float:
        """Network pixels; see `cost_of`."""

    @property
    def num_bytes(self) -> int:
        """Size of the pictures that the task holds."""

    @property
    def texts(self) -> list[str]:
        """Every text that the network reads for this task."""

    def start(self, network: ConditionalDenoiser) -> SamplingTask:
        """The sampler and its denoiser, which calls `network` in place of the pipeline's own. Raises TintypeError."""


@dataclass(frozen=True, slots=True)
class GenerateTask:
    """Generate the pictures of a request. Returns x0 [B, 3, H, W]."""

    pipeline: Pipeline
    request: Request

    @property
    def size(self) -> tuple[int, int]:
        return self.request.width, self.request.height

    @property
    def num(self) -> int:
        return len(self.request)

    @property
    def cost(self) -> float:
        pixels = self.request.width * self.request.height
        guided = any(scale != 1 for scale in self.request.guidance)
        sigmas = request_sigmas(self.request, self.pipeline.config.noise)
        evaluations = num_evaluations(request_sampler(self.request), sigmas)
        if self.request.source_caption is not None:
            evaluations += INVERSION_EVALUATIONS * (len(sigmas) - 1)
        return cost_of(len(self.request), pixels, evaluations, guided)

    @property
    def num_bytes(self) -> int:
        images = (self.request.init_image, self.request.mask)
        return sum(image.width * image.height * len(image.getbands()) for image in images if image is not None)

    @property
    def texts(self) -> list[str]:
        return request_texts(self.request)

    def start(self, network: ConditionalDenoiser) -> SamplingTask:
        return self.pipeline.sampling_task(self.request, network)


class Job:
    """A task in the engine.

    Args:
        owner: the client's key, for limits and access.
        seconds: until the job fails with reason "deadline".
        previews: steps whose frames to keep; None keeps none.
        keep_frames: keep every preview frame; of very large pictures as many as fit into MAX_FRAME_BYTES, evenly
            spread. Otherwise the newest frame replaces the one before.

    `version` grows with every change. Any number of readers may wait for a change; none of them can slow the engine.
    """

    def __init__(
        self,
        task: Task,
        *,
        owner: str = "",
        seconds: float = 600.0,
        previews: PreviewSteps | None = None,
        keep_frames: bool = False,
    ) -> None:
        self.id = str(uuid.uuid4())
        self.task = task
        self.cost = task.cost
        self.owner = owner
        self.created = time.monotonic()
        self.deadline = self.created + seconds
        self.status: Status = "waiting"
        self.reason: Reason | None = None  # of a failure
        self.message = ""  # of a failure
        self.index = -1  # newest step
        self.total = 0  # steps
        self.frames: dict[int, Frame] = {}  # by step
        self.num_cut = 0  # texts longer than the model reads
        self.illegible: list[str] = []  # signs or words of the texts that the model cannot read
        self.text_tokens = 0
        self.result: Tensor | None = None  # on the CPU
        self.started = self.first_preview = self.ended = 0.0  # monotonic; 0: not yet
        self.version = 0
        self.cancelled = threading.Event()
        self._previews = previews
        self._keep_frames = keep_frames
        self._preview_steps: Collection[int] = ()
        self._changed = Signal()

    @property
    def open(self) -> bool:
        """Whether the job waits or runs."""
        return self.status in ("waiting", "running")

    def is_final(self, index: int) -> bool:
        """Whether the frame of a step, if it is read after this, is the one that it stays."""
        return index < self.total - 1 or self.result is not None

    @property
    def num_bytes(self) -> int:
        """Size of the frames, the result and the pictures of the task."""
        frames = sum(3 * frame.guess.nbytes for frame in list(self.frames.values()))
        return frames + self.task.num_bytes + (0 if self.result is None else self.result.nbytes)

    def start(self, total: int) -> None:
        """Mark the job as running, with `total` steps. Engine thread only."""
        self.status, self.total, self.started = "running", total, time.monotonic()
        if self._previews is not None:
            self._preview_steps = self._previews(total)
        width, height = self.task.size
        frame_bytes = 9 * self.task.num * min(width, MAX_PREVIEW_SIDE) * min(height, MAX_PREVIEW_SIDE)
        max_frames = max(2, MAX_FRAME_BYTES // frame_bytes)
        if self._keep_frames and len(self._preview_steps) > max_frames:
            every = -(-len(self._preview_steps) // max_frames)
            self._preview_steps = {i for i in self._preview_steps if i % every == 0 or i == total - 1}
        self._notify()

    def advance(self, step: Step) -> None:
        """Record a finished step. Engine thread only."""
        self.index = step.index
        if step.index in self._preview_steps:
            stride = -(-max(self.task.size) // MAX_PREVIEW_SIDE)  # subsampled, since an average would change the noise
            rows = slice(None, None, stride)
            x, denoised = step.x[..., rows, rows], step.denoised[..., rows, rows]
            frames = self.frames if self._keep_frames else {}
            decode = self.task.pipeline.codec.decode
            self.frames = {**frames, step.index: frame(decode, step.index, step.total, step.sigma, x, denoised)}
            self.first_preview = self.first_preview or time.monotonic()
        self._notify()

    def finish(self, result: Tensor) -> None:
        """Keep the pictures, and show them as the guess of the last step. Engine thread only.

        They differ from it after an inversion, which adds the detail that the model lost.
        """
        last = self.frames.get(self.total - 1)
        if last is not None and result.ndim == 4:
            stride = -(-max(self.task.size) // MAX_PREVIEW_SIDE)
            pictures = visible(self.task.pipeline.codec.decode, result[..., ::stride, ::stride])
            if pictures.shape == last.guess.shape:
                self.frames = {**self.frames, self.total - 1: last._replace(guess=pictures)}
        self.result = result.cpu()  # after the frames, for `is_final`

    def end(self, status: Status, reason: Reason | None = None, message: str = "") -> None:
        """Close the job. Called by the engine thread, or by the thread that took the job out of the queue."""
        self.reason, self.message, self.ended = reason, message, time.monotonic()
        self.status = status  # last, because readers check it first
        self._notify()

    async def wait(self, version: int, seconds: float | None = None) -> bool:
        """Wait until `self.version` differs from `version`; False after `seconds` without a change."""
        return await self._changed.wait(lambda: self.version != version, seconds)

    async def finished(self) -> None:
        """Wait until the job is no longer open."""
        while self.open:
            await self.wait(self.version)

    def _notify(self) -> None:
        self.version += 1
        self._changed.wake()


class Signal:
    """Wakes coroutines from another thread, with one message per event loop however often it is woken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = set()

    def wake(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, set()
        for loop, future in waiting:
            try:
                loop.call_soon_threadsafe(_finish, future)
            except RuntimeError:  # the loop is closed, so nobody waits in it
                pass

    async def wait(self, done: Callable[[], bool], seconds: float | None) -> bool:
        loop = asyncio.get_running_loop()
        until = None if seconds is None else loop.time() + seconds
        while True:
            future = loop.create_future()
            entry = (loop, future)
            with self._lock:
                self._waiting.add(entry)
            try:
                if done():
                    return True
                await asyncio.wait_for(future, None if until is None else until - loop.time())
            except TimeoutError:
                return done()
            finally:
                with self._lock:
                    self._waiting.discard(entry)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
