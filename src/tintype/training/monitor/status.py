"""The status of a run, read from its folder alone: for `tintype info`, during training and after."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tintype.config import TrainConfig
from tintype.metrics.intervals import Estimate, format_proportion
from tintype.model import checkpoint
from tintype.model.file_names import LOG, WEIGHTS
from tintype.training.checkpoints.checkpointer import EARLY_STOPPING
from tintype.training.checkpoints.run_folder import is_at_work
from tintype.training.console import duration
from tintype.training.monitor.log_rows import read_log
from tintype.training.monitor.memorization_gauge import OVERALL

_LEVEL = "3"  # noise level at which a caption matters most: there the layout is decided
_RECENT = 30  # rows of the log
_PROBLEMS = (  # events in the log, and their names in the plural
    ("skipped", "skipped steps"),
    ("spike", "loss spikes"),
    ("went_back", "returns"),
    ("unreadable", "times that pictures became unreadable"),
)


def run_status(run: Path, train: TrainConfig) -> list[tuple[str, str]]:
    """The progress and quality of a run: (name, value), with an empty value where nothing is known."""
    rows = read_log(run / LOG)
    steps = [row for row in rows if row.get("lr") is not None]
    if not steps:
        return [("running", "yes, preparing" if is_at_work(run) else "no")]
    return [
        ("running", _training(run, steps, train)),
        ("loss", _loss(steps)),
        ("captions", _caption_use(rows)),
        ("memorization", _memorization(rows)),
        ("stopping", _stopping(rows, train)),
        ("problems", _problems(rows)),
        ("checkpoints", ", ".join(folder.name for folder in checkpoint.checkpoints(run))),
    ]


def _training(run: Path, steps: Sequence[Mapping[str, Any]], train: TrainConfig) -> str:
    remaining = train.images_left(steps[-1]["images_seen"])
    if not is_at_work(run):
        if remaining <= 0 and (run / WEIGHTS).is_file():
            return "no, finished" if not train.planned_images else "no, finished early: see stopping"
        return f"no, stopped {_ago(steps[-1])} ago; the same command resumes it"
    if remaining <= 0:
        return "yes, finishing: after the last step it is measured and saved"
    speeds = [row["images_per_second"] for row in steps[-_RECENT:] if row.get("images_per_second")]
    if not speeds:
        return "yes"
    return f"yes, {median(speeds):.1f} images/s, {duration(remaining / median(speeds))} left"


def _ago(row: Mapping[str, Any]) -> str:
    try:
        then = datetime.datetime.fromisoformat(row["time"])
        return duration(max(0.0, (datetime.datetime.now(datetime.UTC) - then).total_seconds()))
    except (KeyError, TypeError, ValueError):
        return "an unknown time"


def _loss(steps: Sequence[Mapping[str, Any]]) -> str:
    losses = [row["loss"] for row in steps[-_RECENT:] if row.get("loss") is not None]
    return f"{median(losses):.4f} (median of the newest rows), learning rate {steps[-1]['lr']:.2g}" if losses else ""


def _caption_use(rows: Sequence[Mapping[str, Any]]) -> str:
    """How much worse the model does with a wrong caption, or with none."""
    row = next((row for row in reversed(rows) if row.get("noise_error_shuffled")), None)
    if row is None:
        return ""
    names = ("noise_error", "noise_error_shuffled", "noise_error_empty")
    true, shuffled, empty = (row.get(name, {}).get(_LEVEL) for name in names)
    if not (true and shuffled and empty):
        return ""
    return (
        f"at sigma {_LEVEL} the error is {shuffled / true:.2f} times as large with captions of other pictures, "
        f"{empty / true:.2f} times with none"
    )


def _memorization(rows: Sequence[Mapping[str, Any]]) -> str:
    """The memorization gauge of the newest validation."""
    row: Mapping[str, Any] | None = next((row for row in reversed(rows) if row.get("memorization")), None)
    if row is None:
        return ""
    gauges = {name: Estimate(*values) for name, values in row["memorization"].items() if None not in values}
    if OVERALL not in gauges:
        return ""
    errors = [row.get(name, {}).get(_LEVEL) for name in ("noise_error", "noise_error_training")]
    text = (
        f"gauge {format_proportion(gauges[OVERALL])}: early warning of copies; 0 % no better on training than on new "
        "pictures, 100 % memorized"
    )
    if None not in errors:
        text += f"; at sigma {_LEVEL} errors of {errors[1]:.2g} and {errors[0]:.2g}"
    return text


def _stopping(rows: Sequence[Mapping[str, Any]], train: TrainConfig) -> str:
    """Where the held-out error is lowest, and where the run ends because of it."""
    if train.planned_images:
        return (
            f"at {train.images:,} of {train.planned_images:,} images: from there on it would only learn its pictures "
            "by heart"
        )
    look: Mapping[str, Any] = next((row[EARLY_STOPPING] for row in reversed(rows) if EARLY_STOPPING in row), {})
    values = [look.get(name) for name in ("error", "lowest", "lowest_images")]
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values):
        return ""
    error, lowest, images = numbers
    if error <= lowest:
        return f"no: the error on held-out pictures still falls ({error:.3g})"
    return f"not yet: the error on held-out pictures is {error:.3g} and was lowest at {images:,} images, {lowest:.3g}"


def _problems(rows: Sequence[Mapping[str, Any]]) -> str:
    counts = [(sum(name in row for row in rows), label) for name, label in _PROBLEMS]
    text = ", ".join(f"{count} {label}" for count, label in counts if count)
    return f"{text}; see {LOG}" if text else ""
