"""Where a run stands, from its folder alone: for `tintype info`, while it trains and afterwards."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tintype.metrics.intervals import Estimate, format_proportion
from tintype.model import checkpoint
from tintype.training.checkpoints.run_folder import LOG, is_at_work
from tintype.training.console import duration
from tintype.training.monitor.log import read_log
from tintype.training.monitor.memorization_gauge import OVERALL

_LEVEL = "3"  # noise level at which a caption matters most: what is where is decided there
_RECENT = 30  # rows of the log


# Rows of the log, and what they count.
_TROUBLES = (
    ("skipped", "skipped steps"),
    ("spike", "loss spikes"),
    ("went_back", "returns"),
    ("unreadable", "times that pictures had gone bad"),
)


def standing(run: Path, images: int) -> list[tuple[str, str]]:
    """What a run of `images` is doing and how well: (name, value), an empty value where there is nothing to say."""
    rows = read_log(run / LOG)
    steps = [row for row in rows if row.get("lr") is not None]
    if not steps:
        return [("at work", "yes, preparing" if is_at_work(run) else "no")]
    return [
        ("at work", _at_work(run, steps, images)),
        ("loss", _loss(steps)),
        ("captions", _caption_use(rows)),
        ("memory", _memory(rows)),
        ("trouble", _trouble(rows)),
        ("checkpoints", ", ".join(place.name for place in checkpoint.checkpoints(run))),
    ]


def _at_work(run: Path, steps: Sequence[Mapping[str, Any]], images: int) -> str:
    left = images - steps[-1]["images_seen"]
    if not is_at_work(run):
        return "no, it is done" if left <= 0 else f"no, last heard of {_ago(steps[-1])} ago; train it again to go on"
    speeds = [row["images_per_second"] for row in steps[-_RECENT:] if row.get("images_per_second")]
    if not speeds:
        return "yes"
    return f"yes, {median(speeds):.1f} images/s, {duration(max(0, left) / median(speeds))} left"


def _ago(row: Mapping[str, Any]) -> str:
    try:
        then = datetime.datetime.fromisoformat(row["time"])
        return duration(max(0.0, (datetime.datetime.now(datetime.UTC) - then).total_seconds()))
    except (KeyError, TypeError, ValueError):
        return "some time"


def _loss(steps: Sequence[Mapping[str, Any]]) -> str:
    losses = [row["loss"] for row in steps[-_RECENT:] if row.get("loss") is not None]
    return f"{median(losses):.4f} lately, learning rate {steps[-1]['lr']:.2g}" if losses else ""


def _caption_use(rows: Sequence[Mapping[str, Any]]) -> str:
    """How much worse the model is when it is told the wrong caption, or none."""
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


def _memory(rows: Sequence[Mapping[str, Any]]) -> str:
    """How far it has begun to know its training pictures by heart."""
    row: Mapping[str, Any] | None = next((row for row in reversed(rows) if row.get("memorization")), None)
    if row is None:
        return ""
    gauges = {name: Estimate(*found) for name, found in row["memorization"].items() if None not in found}
    if OVERALL not in gauges:
        return ""
    sides = [row.get(name, {}).get(_LEVEL) for name in ("noise_error", "noise_error_training")]
    told = (
        f"gauge {format_proportion(gauges[OVERALL])}: 0 % no better on training pictures than on new ones, 100 % by "
        f"heart"
    )
    if None not in sides:
        told += f"; at sigma {_LEVEL} errors of {sides[1]:.2g} and {sides[0]:.2g}"
    return told


def _trouble(rows: Sequence[Mapping[str, Any]]) -> str:
    counts = [(sum(name in row for row in rows), said) for name, said in _TROUBLES]
    told = ", ".join(f"{count} {said}" for count, said in counts if count)
    return f"{told}; see {LOG}" if told else ""
