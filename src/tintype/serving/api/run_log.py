"""The log of a run as its page shows it; every poll reads only what was appended since the one before."""

from __future__ import annotations

import datetime
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from tintype.config import TrainConfig
from tintype.model.file_names import LOG
from tintype.training.monitor.log_rows import MAX_ROWS, LogReader, Row

MAX_POINTS = 400  # of a curve
_RECENT = 30  # rows whose speeds tell the time left


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What a log says of a run's progress."""

    images_seen: int
    seconds_since: float | None  # age of the newest row; an active run writes one every ten seconds
    seconds_left: float | None  # at the median speed of the newest rows
    loss: list[list[float]]  # [images seen, loss], at most MAX_POINTS and the last
    noise_error: list[dict[str, Any]]  # images_seen, and errors by noise level


class RunLog:
    """The log of the run in a folder. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        self._lock = Lock()
        self._reader = LogReader(folder / LOG, folder)
        self._clear()

    def summary(self, train: TrainConfig) -> LogSummary:
        """Read what is new; train: of the run."""
        with self._lock:
            rows, is_new = self._reader.new_rows()
            if is_new:
                self._clear()
            for row in rows:
                self._add(row)
            del self._loss_at[:-MAX_ROWS], self._loss[:-MAX_ROWS]
            points = zip(_thin(self._loss_at), _thin(self._loss), strict=True)
            return LogSummary(
                self._images_seen,
                self._seconds_since(),
                self._seconds_left(train.images_left(self._images_seen)),
                [list(point) for point in points],
                list(self._noise_error),
            )

    def validation(self) -> Row | None:
        """The row of the newest validation that has been read; None before the first."""
        with self._lock:
            return self._validation

    def _clear(self) -> None:
        self._images_seen = 0
        self._time: str | None = None  # of the newest row
        self._speeds: deque[float | None] = deque(maxlen=_RECENT)
        self._loss_at, self._loss = array("q"), array("d")  # a long run has hundreds of thousands
        self._noise_error: deque[dict[str, Any]] = deque(maxlen=MAX_ROWS)
        self._validation: Row | None = None

    def _add(self, row: Row) -> None:
        self._images_seen = max(self._images_seen, row["images_seen"])
        self._time = row.get("time")
        self._speeds.append(row.get("images_per_second"))
        if row.get("loss") is not None:
            self._loss_at.append(row["images_seen"])
            self._loss.append(row["loss"])
        if row.get("noise_error"):
            self._validation = row
            self._noise_error.append({"images_seen": row["images_seen"], "levels": row["noise_error"]})

    def _seconds_since(self) -> float | None:
        if self._time is None:
            return None
        written = datetime.datetime.fromisoformat(self._time)  # `LogReader` has checked it
        return max(0.0, (datetime.datetime.now(datetime.UTC) - written).total_seconds())

    def _seconds_left(self, images_left: float) -> float | None:
        speeds = sorted(speed for speed in self._speeds if speed)
        return images_left / speeds[len(speeds) // 2] if speeds else None


def _thin(values: Sequence[float]) -> Sequence[float]:
    """At most MAX_POINTS values, evenly spread, and the last."""
    every = -(-len(values) // MAX_POINTS) or 1
    return values if every == 1 else [*values[::every], values[-1]]
