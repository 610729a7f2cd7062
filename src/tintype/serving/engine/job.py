"""One open request: what it asks, how far it is, and how it ended. Written by the engine's thread, read on the loop."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from tintype.diffusion.samplers import Step
from tintype.pipeline.guided_denoiser import request_texts
from tintype.pipeline.pipeline import Given, Pipeline
from tintype.pipeline.request import Request
from tintype.pipeline.sampling_task import SamplingTask
from tintype.serving.settings import cost_of
from tintype.view.contact_sheet import Frame, frame

Status = Literal["waiting", "running", "done", "failed", "cancelled"]
Reason = Literal["error", "not_finite", "memory", "deadline", "shutdown", "dead"]
Watch = Callable[[int], Collection[int]]  # number of steps -> which to show
SHOWN_SIDE = 512  # pixels; larger pictures are shown thinned out while they are made
KEPT_BYTES = 64 * 2**20  # of the frames of one work
ROUNDS = 6  # evaluations for each noise level on a way back to noise, about


class Begun(NamedTuple):
    """A task that has been started."""

    sampling: SamplingTask
    num_cut: int  # texts that were too long for the model


class Task(Protocol):
    """What an engine can do: a coroutine over pictures of one size. Begun on the engine's thread."""

    @property
    def pipeline(self) -> Pipeline:
        """The model."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""

    @property
    def num(self) -> int:
        """Pictures worked on at once."""

    @property
    def cost(self) -> float:
        """See `cost_of`."""

    def begin(self, given: Given) -> Begun:
        """Start, with `given` in place of the network. Raises TintypeError."""


@dataclass(frozen=True, slots=True)
class Making:
    """Make the pictures of a request. Returns x0 [B, 3, H, W]."""

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
        evaluations = self.request.steps * (1 if self.request.source_caption is None else 1 + ROUNDS)
        return cost_of(len(self.request), pixels, evaluations, guided)

    def begin(self, given: Given) -> Begun:
        num_cut = self.pipeline.num_cut(request_texts(self.request))
        return Begun(self.pipeline.sampling_task(self.request, given), num_cut)


class Work:
    """A task in an engine.

    Args:
        owner: who asked, for limits and rights.
        seconds: until it is given up.
        watch: which of `total` steps to show; a reader that is slow sees the newest.
        keep: whether all steps shown are kept; of very large ones, as many as fit into KEPT_BYTES, evenly spread.

    `version` grows with every change. Any number of readers may wait for changes; none can hold up the engine.
    """

    def __init__(
        self, task: Task, *, owner: str = "", seconds: float = 600.0, watch: Watch | None = None, keep: bool = False
    ) -> None:
        self.id = str(uuid.uuid4())
        self.task = task
        self.owner = owner
        self.created = time.monotonic()
        self.deadline = self.created + seconds
        self.status: Status = "waiting"
        self.reason: Reason | None = None  # of a failure
        self.message = ""  # likewise
        self.index = -1  # of the newest step
        self.total = 0
        self.frames: dict[int, Frame] = {}  # by step; without `keep` the newest one only
        self.num_cut = 0  # texts longer than the model reads
        self.text_tokens = 0
        self.result: Tensor | None = None  # on the CPU
        self.started = self.first_shown = self.ended = 0.0  # monotonic, 0: not yet
        self.version = 0
        self.cancelled = threading.Event()
        self._watch = watch
        self._keep = keep
        self._shown: Collection[int] = ()
        self._changed = _Signal()

    @property
    def open(self) -> bool:
        return self.status in ("waiting", "running")

    @property
    def size_kept(self) -> int:
        """Bytes of the frames and the result."""
        frames = sum(3 * frame.guess.nbytes for frame in list(self.frames.values()))
        return frames + (0 if self.result is None else self.result.nbytes)

    def begin(self, total: int) -> None:
        """It runs, and will take `total` steps. Engine's thread."""
        self.status, self.total, self.started = "running", total, time.monotonic()
        if self._watch is not None:
            self._shown = self._watch(total)
        width, height = self.task.size
        room = max(2, KEPT_BYTES // (9 * self.task.num * min(width, SHOWN_SIDE) * min(height, SHOWN_SIDE)))
        if self._keep and len(self._shown) > room:
            every = -(-len(self._shown) // room)
            self._shown = {index for index in self._shown if index % every == 0 or index == total - 1}
        self.changed()

    def advance(self, step: Step) -> None:
        """A step was made. Engine's thread."""
        self.index = step.index
        if step.index in self._shown:
            stride = -(-max(self.task.size) // SHOWN_SIDE)  # every n-th pixel: an average would change the noise
            small = slice(None, None, stride)
            frames = self.frames if self._keep else {}
            shown = frame(
                step.index, step.total, step.sigma, step.x[..., small, small], step.denoised[..., small, small]
            )
            self.frames = {**frames, step.index: shown}
            self.first_shown = self.first_shown or time.monotonic()
        self.changed()

    def end(self, status: Status, reason: Reason | None = None, message: str = "") -> None:
        """It is over. Engine's thread, or whoever took it out of the queue."""
        self.reason, self.message, self.ended = reason, message, time.monotonic()
        self.status = status  # last: readers look at it first
        self.changed()

    def changed(self) -> None:
        """Tell every reader. From any thread."""
        self.version += 1
        self._changed.wake()

    async def wait(self, seen: int, seconds: float | None = None) -> bool:
        """Until `version` differs from `seen`; False if that took longer than `seconds`."""
        return await self._changed.wait(lambda: self.version != seen, seconds)

    async def finished(self) -> None:
        """Until it is no longer open."""
        while self.open:
            await self.wait(self.version)


class _Signal:
    """Wakes waiting coroutines from another thread, with one message to the loop however often it is woken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = set()

    def wake(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, set()
        for loop, future in waiting:
            try:
                loop.call_soon_threadsafe(_finish, future)
            except RuntimeError:  # the loop is closed: nobody is left to be told
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
