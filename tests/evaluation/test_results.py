"""Results as JSON, and two models compared."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tintype.evaluation.results import EvalResult, ReportData, compare_results, to_json


def test_json_has_every_figure_and_no_infinities(evaluated: tuple[EvalResult, ReportData]) -> None:
    content = json.loads(to_json(evaluated[0]))
    assert content["noise"]["unseen"][0]["value"] == evaluated[0].noise.unseen[0].value
    assert set(content["accuracy"]["scores"]) == {"new", "held out", "chance"}


def test_two_models_are_compared_on_the_same_pictures(evaluated: tuple[EvalResult, ReportData]) -> None:
    result, report = evaluated
    better = replace(report, unseen_errors=report.unseen_errors * 0.75)
    comparison = compare_results((result, report), (result, better))
    assert comparison is not None
    assert all(row["value"] == pytest.approx(0.25) and row["low"] == pytest.approx(0.25) for row in comparison["gains"])
    other_pictures = replace(report, measured=report.measured[::-1])
    assert compare_results((result, report), (result, other_pictures)) is None
