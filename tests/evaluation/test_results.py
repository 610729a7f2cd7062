"""Results as JSON, and two models compared."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tintype.evaluation.results import EvalResult, PreviousResult, ReportData, compare_results, read_previous, to_json


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


def test_an_earlier_evaluation_is_read_back(evaluated: tuple[EvalResult, ReportData], tmp_path: Path) -> None:
    result = evaluated[0]
    path = tmp_path / "seen-000000100.json"
    path.write_text(to_json(result))
    unseen = [error.value for error in result.noise.unseen]
    expected = PreviousResult(result.about.fingerprint, result.about.images_seen, result.sigmas, unseen)
    assert read_previous(path) == expected


GOOD: dict[str, Any] = {
    "about": {"fingerprint": "f", "images_seen": 100},
    "sigmas": [0.1, 1.0],
    "noise": {"unseen": [{"value": 0.5}, {"value": None}]},
}


@pytest.mark.parametrize(
    "change",
    [
        {"about": None},
        {"about": {"fingerprint": "f", "images_seen": "many"}},
        {"about": {"fingerprint": [], "images_seen": 100}},
        {"sigmas": [0.1]},
        {"sigmas": ["x", 1.0]},
        {"sigmas": 7},
        {"noise": {"unseen": [0.5, 0.5]}},
        {"noise": {"unseen": [{"value": "x"}, {"value": 10**400}]}},
        {"noise": {"unseen": None}},
    ],
)
def test_an_earlier_evaluation_of_odd_content_is_none(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "seen-000000100.json"
    path.write_text(json.dumps(GOOD))
    previous = read_previous(path)
    assert previous is not None
    assert previous[:3] == ("f", 100, [0.1, 1.0])
    assert math.isnan(previous.unseen[1])
    path.write_text(json.dumps(GOOD | change))
    assert read_previous(path) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b"null"])
def test_an_earlier_evaluation_that_is_no_json_object_is_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "seen-000000100.json"
    path.write_bytes(content)
    assert read_previous(path) is None
    assert read_previous(tmp_path / "missing.json") is None
