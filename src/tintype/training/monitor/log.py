"""The progress of a run: log.jsonl for programs, a bar or plain lines for people."""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from tintype.config import TrainConfig
from tintype.training.console import LINE_SECONDS, duration, say
from tintype.training.core.trainer import StepReport
from tintype.training.core.validation_error import ValidationMetrics
from tintype.training.monitor.tensorboard import TensorBoardWriter

ROW_SECONDS = 10.0  # between rows of the log
SMOOTHING = 0.97  # decay of the displayed loss and speed per step


class Log:
    """Writes log.jsonl: images_seen, loss, lr, grad_norm, images_per_second and time. A validation adds the errors
    noise_error, noise_error_shuffled (with captions of other pictures), noise_error_empty (without captions),
    noise_error_training (on training pictures) and noise_error_ideal (of the ideal denoiser of the training set), and
    memorization, the gauge with its interval. Events have their own rows: skipped, spike, went_back, unreadable, and
    planned, replanned and ended in a run with a time budget, threads when their number changes, early_stopping with
    each look at the held-out error and stopping when that moves the end.

    Losses are means over the steps since the previous row. Rows that cannot be written are dropped: a log never stops a
    run.
    """

    def __init__(self, path: Path, tensorboard: TensorBoardWriter | None = None) -> None:
        self._path = path
        self._tensorboard = tensorboard
        self._losses: list[float] = []
        self._report: StepReport | None = None
        self._images = 0
        self._seconds = 0.0
        self._last_row = -math.inf

    def step(self, report: StepReport, num_images: int, seconds: float) -> None:
        """Take in a step that took `seconds`; writes a row every ten seconds."""
        self._report = report
        self._images += num_images
        self._seconds += seconds
        if not report.skipped:
            self._losses.append(report.loss)
        if time.monotonic() - self._last_row >= ROW_SECONDS:
            self.write()

    def write(self, metrics: ValidationMetrics | None = None) -> None:
        """Write a row now, with the results of a validation if given."""
        row: dict[str, Any] = {}
        if (report := self._report) is not None:
            row = {
                "images_seen": report.images_seen,
                "loss": _finite(sum(self._losses) / len(self._losses)) if self._losses else None,
                "lr": report.lr,
                "grad_norm": _finite(report.grad_norm),
                "images_per_second": round(self._images / self._seconds, 3) if self._seconds else None,
            }
        elif metrics is not None and metrics.errors:  # of a run that resumed after its last step
            row = {"images_seen": metrics.images_seen}
        else:
            return
        row["time"] = _now()
        if metrics is not None:
            row.update(metrics_json(metrics))
        self._append(row)
        if self._tensorboard is not None:
            self._tensorboard.row(row)
        self._losses, self._images, self._seconds = [], 0, 0.0
        self._last_row = time.monotonic()

    def event(self, images_seen: int, name: str, content: Mapping[str, Any]) -> None:
        """Write a row with one event, as an entry `name` with this content."""
        entry = {key: _finite(value) if isinstance(value, float) else value for key, value in content.items()}
        self._append({"images_seen": images_seen, name: entry, "time": _now()})

    def _append(self, row: Mapping[str, Any]) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
        except OSError:
            pass


def metrics_json(metrics: ValidationMetrics) -> dict[str, Any]:
    """Noise errors by noise level and the memorization gauge as JSON, with the keys of a row of the log."""
    content: dict[str, Any] = {}
    for captions, errors in metrics.errors.items():
        name = "noise_error" if captions == "true" else f"noise_error_{captions}"
        content[name] = {f"{level:g}": _finite(error) for level, error in errors.items()}
    if metrics.memorization:
        content["memorization"] = {name: list(map(_finite, gauge)) for name, gauge in metrics.memorization.items()}
    return content


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


class Display:
    """A live bar on a terminal; where output is piped, a line every ten seconds."""

    def __init__(self, console: Console, train: TrainConfig, images_seen: int) -> None:
        self._console = console
        self._train = train
        self._images = train.images
        self._images_seen = images_seen
        self._loss = _Smoothed()
        self._images_a_step, self._seconds_a_step = _Smoothed(), _Smoothed()
        self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[numbers]}"),
                TextColumn("{task.fields[left]}"),
                console=console,
            )
            self._task = self._bar.add_task("training", total=train.images, completed=images_seen, numbers="", left="")

    def __enter__(self) -> Display:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def set_length(self, train: TrainConfig) -> None:
        """Set the length of the run."""
        self._train = train
        if train.images != self._images:
            self._images = train.images
            if self._bar is not None:
                self._bar.update(self._task, total=train.images)

    def step(self, report: StepReport, num_images: int, seconds: float) -> None:
        """Take in a step that took `seconds`."""
        self._images_seen = report.images_seen
        if not report.skipped:
            self._loss.add(report.loss)
        self._images_a_step.add(num_images)
        self._seconds_a_step.add(max(seconds, 1e-9))
        if self._bar is not None:
            done = min(report.images_seen, self._images)
            self._bar.update(self._task, completed=done, numbers=self._numbers(), left=f"{self._left()} left")
        elif time.monotonic() - self._last_line >= LINE_SECONDS or report.images_seen >= self._images:
            self._last_line = time.monotonic()
            self.say(self.status())

    def status(self) -> str:
        """The progress of the run, in one line: what is left until the last step, and nothing after it."""
        if self._images_seen >= self._images:
            return self._numbers()
        return f"{self._numbers()}  {self._left()} left"

    def say(self, text: str) -> None:
        """Print a line, above the bar if it is displayed."""
        say(self._console, text)

    def _left(self) -> str:
        return duration(self._train.images_left(self._images_seen) / self._speed())

    def _numbers(self) -> str:
        loss, speed = self._loss.mean(), self._speed()
        return f"loss {loss:.4f}  {speed:.1f} images/s  {self._images_seen:,} of {self._images:,} images"

    def _speed(self) -> float:
        """Images per second: a mean over time, in which a slow step counts for all that it took."""
        return self._images_a_step.mean() / self._seconds_a_step.mean()


class _Smoothed:
    """A moving mean whose weights decay by SMOOTHING per value, and sum to 1 from the first value on."""

    def __init__(self) -> None:
        self._total = self._weight = 0.0

    def add(self, value: float) -> None:
        self._total = SMOOTHING * self._total + value
        self._weight = SMOOTHING * self._weight + 1

    def mean(self) -> float:
        """The mean; NaN before the first value."""
        return self._total / self._weight if self._weight else math.nan
