"""Pictures written token by token, in the engine's thread: a place of each in every turn."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator

import torch
from torch import Tensor

from tintype.serving import logs
from tintype.serving.engine.failures import failure_of
from tintype.serving.engine.job import Reason, Signal, Status
from tintype.serving.engine.metrics import Metrics
from tintype.serving.engine.queue import Rejected
from tintype.serving.settings import Settings
from tintype.tokens.write import WriteRequest, Written
from tintype.tokens.writer import TokenWriter

TURN_SECONDS = 0.1  # of writing, after which pictures that are denoised have their turn


class Writing:
    """One picture that is written. `steps` grows; any number of readers may wait for it.

    Args:
        owner: the client's key, for limits.
        seconds: until it fails with reason "deadline".
    """

    def __init__(self, writer: TokenWriter, request: WriteRequest, *, owner: str, seconds: float) -> None:
        self.id = str(uuid.uuid4())
        self.writer = writer
        self.request = request
        self.owner = owner
        self.created = time.monotonic()
        self.deadline = self.created + seconds
        self.status: Status = "waiting"
        self.reason: Reason | None = None
        self.message = ""
        self.steps: list[Written] = []
        self.seconds = 0.0  # of computing
        self.cancelled = threading.Event()
        self._places: Iterator[Written] | None = None
        self._changed = Signal()

    @property
    def open(self) -> bool:
        return self.status in ("waiting", "running")

    @property
    def tokens(self) -> Tensor:
        """The tokens so far, int64 [1, S]."""
        return torch.stack([step.tokens for step in self.steps], dim=1)

    def advance(self) -> bool:
        """Write a place; False after the last. Engine thread only."""
        start = time.perf_counter()
        if self._places is None:
            self.status, self._places = "running", self.writer.write(self.request)
        step = next(self._places, None)
        self.seconds += time.perf_counter() - start
        if step is None:
            return False
        self.steps.append(step)
        self._changed.wake()
        return len(self.steps) < self.writer.config.net.num_tokens

    def end(self, status: Status, reason: Reason | None = None, message: str = "") -> None:
        self.reason, self.message = reason, message
        self.status = status  # last, because readers check it first
        self._places = None
        self._changed.wake()

    async def wait(self, num_steps: int, seconds: float) -> None:
        """Wait until there are more than `num_steps` steps or it has ended, for at most `seconds`."""
        await self._changed.wait(lambda: len(self.steps) > num_steps or not self.open, seconds)


class Writings:
    """The pictures that are written now. Only the engine's thread calls `turn`, under no lock."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._open: list[Writing] = []

    def __len__(self) -> int:
        return len(self._open)

    def put(self, writing: Writing) -> None:
        """Begin to write. Raises Rejected where too many are open, or too many of one key."""
        settings = self._settings
        if len(self._open) >= settings.max_waiting:
            raise Rejected("queue", f"{len(self._open)} pictures are being written, the most at once", 1.0)
        own = sum(other.owner == writing.owner for other in self._open)
        if settings.api_keys and own >= settings.max_open_per_key:
            raise Rejected("key", f"this key has {own} open requests, the most it may have", 1.0)
        self._open.append(writing)

    def turn(self) -> None:
        """Write a place of each picture, the one first whose turn is longest ago, for at most TURN_SECONDS."""
        until = time.monotonic() + TURN_SECONDS
        for writing in list(self._open):
            self._advance(writing)
            if time.monotonic() >= until:
                return

    def fail_all(self, reason: Reason, message: str) -> None:
        for writing in list(self._open):
            self._end(writing, "failed", reason, message)

    def _advance(self, writing: Writing) -> None:
        if writing.cancelled.is_set():
            self._end(writing, "cancelled")
        elif writing.deadline <= time.monotonic():
            self._end(writing, "failed", "deadline", "timed out while running")
        else:
            try:
                goes_on = writing.advance()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # no model's fault stops the engine for the others
                self._end(writing, "failed", *failure_of(writing.id, writing.writer.name, error))
                return
            if goes_on:
                self._open.remove(writing)
                self._open.append(writing)
            else:
                self._end(writing, "done")

    def _end(self, writing: Writing, status: Status, reason: Reason | None = None, message: str = "") -> None:
        self._open.remove(writing)
        writing.end(status, reason, message)
        self._metrics.written(status, reason, time.monotonic() - writing.created)
        logs.event("written", job=writing.id, model=writing.writer.name, status=status)
