"""Verdicts in model cards."""

from __future__ import annotations

from tintype.evaluation.results import EvalResult, ReportData
from tintype.evaluation.save import BEGIN, with_evaluation


def test_a_card_without_such_a_section_gets_the_results_at_its_end(evaluated: tuple[EvalResult, ReportData]) -> None:
    card = with_evaluation("# mine\n", evaluated[0])
    assert card.startswith("# mine\n\n" + BEGIN)
    assert with_evaluation(card, evaluated[0]) == card
