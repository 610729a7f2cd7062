"""Results as JSON, and two models compared."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tintype.evaluation.results import EvalResult, ReportData, compare_results, to_json


def test_json_has_every_figure_and_no_infinities(evaluated: tuple[EvalResult, ReportData]) -> None:
    found = json.loads(to_json(evaluated[0]))
    assert found["noise"]["unseen"][0]["value"] == evaluated[0].noise.unseen[0].value
    assert set(found["accuracy"]["scores"]) == {"new", "held out", "chance"}


def test_two_models_are_compared_on_the_same_pictures(evaluated: tuple[EvalResult, ReportData]) -> None:
    result, pictures = evaluated
    better = replace(pictures, unseen_errors=pictures.unseen_errors * 0.75)
    gap = compare_results((result, pictures), (result, better))
    assert gap is not None
    assert all(row["value"] == pytest.approx(0.25) and row["low"] == pytest.approx(0.25) for row in gap["gains"])
    elsewhere = replace(pictures, measured=pictures.measured[::-1])
    assert compare_results((result, pictures), (result, elsewhere)) is None
