"""Remarks on a run in plain words, each from what its newest validation has measured and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tintype.training.monitor.log_rows import Row
from tintype.training.monitor.memorization_gauge import OVERALL

LEVEL = "3"  # noise level at which a caption matters most: there the layout is decided
LISTENS = 1.02  # times the error with the captions of other pictures, from which captions make a difference
BY_HEART = 0.05  # of the memorization gauge, which its whole interval must be above
LITTLE = 0.01  # by which the error falls, at the least, in half of the images of a training that still learns
MIN_VALIDATIONS = 4  # from which a curve says whether a training still learns


def notes(row: Row | None, history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Remarks from the row of the newest validation, and from the held-out errors of all: see `RunLog`."""
    if row is None:
        return []
    return [note for note in (_captions(row), _by_heart(row), _still_learns(history)) if note]


def _captions(row: Row) -> str:
    true, other = (row.get(name, {}).get(LEVEL) for name in ("noise_error", "noise_error_shuffled"))
    if not true or not other:
        return ""
    if other < LISTENS * true:
        return "Captions make no difference to it yet: it draws what all of the pictures have in common."
    return f"It listens to captions: with the caption of another picture its error is {other / true - 1:.0%} larger."


def _by_heart(row: Row) -> str:
    value, low, high = row.get("memorization", {}).get(OVERALL) or (None, None, None)
    if value is None or low is None or high is None:
        return ""
    if low > BY_HEART:
        return (
            f"An early warning: it begins to learn its pictures by heart, {min(1.0, value):.0%} of the way: more "
            "pictures would help, more time would not."
        )
    return "It does not learn its pictures by heart so far." if high < 0.5 else ""


def _still_learns(history: Sequence[Mapping[str, Any]]) -> str:
    """Whether the error on pictures that it has not seen fell in the second half of the images."""
    if len(history) < MIN_VALIDATIONS:
        return ""
    last = history[-1]
    half = min(history, key=lambda entry: abs(entry["images_seen"] - last["images_seen"] / 2))
    pairs = [(error, half["levels"].get(level)) for level, error in last["levels"].items()]
    logs = [math.log(now / before) for now, before in pairs if now and before]
    if half is last or not logs:
        return ""
    fallen = 1 - math.exp(sum(logs) / len(logs))
    if fallen < LITTLE:
        return "Its error on pictures that it has not seen no longer falls: more time will change little."
    return f"It still learns: its error on pictures that it has not seen fell by {fallen:.0%} in the last half of it."
