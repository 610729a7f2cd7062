"""Plots survive missing and extreme values."""

from __future__ import annotations

from tintype.evaluation.report.plot import Curve, plot
from tintype.metrics.intervals import UNKNOWN, Estimate


def test_a_plot_survives_what_is_missing_and_what_is_far_off() -> None:
    values = [Estimate(1e-9, -5.0, 1e9), UNKNOWN, Estimate(1.0, float("-inf"), float("inf")), Estimate(-1.0, -2, 0)]
    for log_y in (False, True):
        drawn = plot("a", "x", "y", [Curve(name="n", x=[0.1, 1, 10, 100], y=values, color=0)], log_y=log_y)
        assert "nan" not in drawn
        assert "inf" not in drawn
    assert plot("a", "x", "y", [Curve(name="n", x=[1.0], y=[UNKNOWN], color=0)]) == ""
