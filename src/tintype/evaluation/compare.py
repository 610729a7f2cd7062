"""Two models on the same pictures and noise."""

from __future__ import annotations

from typing import Any

from tintype.evaluation.network_errors import relative_reduction
from tintype.evaluation.results import EvalResult, ReportData


def compare_results(
    first: tuple[EvalResult, ReportData], second: tuple[EvalResult, ReportData]
) -> dict[str, Any] | None:
    """How much less wrong the second model is on unseen pictures, level by level, relative to the first.

    None unless both were measured on the same pictures at the same levels: only then are they compared pair by pair.
    """
    one, other = first[1], second[1]
    if one.measured != other.measured or not one.measured or first[0].sigmas != second[0].sigmas:
        return None
    if first[0].about.resolution != second[0].about.resolution:
        return None
    gains = [
        relative_reduction(b, a)
        for a, b in zip(one.unseen_errors.unbind(1), other.unseen_errors.unbind(1), strict=True)
    ]
    return {"num": len(one.measured), "sigmas": first[0].sigmas, "gains": [found._asdict() for found in gains]}
