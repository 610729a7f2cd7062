"""A whole evaluation of a tiny model: every part is measured, it repeats exactly, and small data sets are noted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from tests.evaluation.conftest import SMALL, opened

from tintype.data.thread_pool import finished
from tintype.evaluation.eval_data import open_eval_data
from tintype.evaluation.measure import evaluate
from tintype.evaluation.progress import StageProgress
from tintype.evaluation.results import EvalResult, ReportData, to_json
from tintype.evaluation.verdict import verdict
from tintype.model.store import find
from tintype.shapes.write import write_shapes


def test_everything_is_measured_where_there_is_enough_to_measure(evaluated: tuple[EvalResult, ReportData]) -> None:
    result, pictures = evaluated
    assert len(result.sigmas) == 16
    assert all(
        math.isfinite(estimate.value) for estimate in (*result.noise.unseen, *result.noise.seen, *result.noise.ideal)
    )
    assert None not in (result.caption_use, result.copies, result.quality, result.accuracy)
    assert {line.topic for line in verdict(result)} >= {"noise", "captions", "copies", "accuracy", "quality"}
    assert len(pictures.samples) == 24
    assert len(pictures.neighbors) == 16
    assert [len(origin.pictures) for origin in pictures.origins] == [3] * 6
    assert result.about.num_seen + result.about.num_unseen == 240
    # A training set cannot be known better than by heart, and captions can only help with that.
    for ideal, blind in zip(result.noise.ideal, result.noise.ideal_no_captions, strict=True):
        assert ideal.value <= blind.value + 1e-9


@pytest.mark.slow
def test_the_same_seed_gives_the_same_figures_and_another_others(
    evaluated: tuple[EvalResult, ReportData], cautious: Path, drawings: Path, cache: Path
) -> None:
    pipeline, data = opened(cautious, drawings, cache)
    again, _ = finished(evaluate(pipeline, data, 1000, SMALL))

    def figures(result: EvalResult) -> str:
        return to_json(replace(result, seconds=0.0, about=replace(result.about, time="")))

    assert figures(again) == figures(evaluated[0])


@pytest.mark.slow
def test_progress_is_told_stage_by_stage(cautious: Path, drawings: Path, cache: Path) -> None:
    pipeline, data = opened(cautious, drawings, cache)
    work, updates = evaluate(pipeline, data, 0, SMALL), list[StageProgress]()
    for progress in work:
        updates.append(progress)
        if progress.stage.startswith("caption accuracy"):
            work.close()
            break
    assert all(0 <= update.done <= update.total for update in updates)
    last = {update.stage: update for update in updates}
    assert all(
        update.done == update.total for stage, update in last.items() if not stage.startswith("caption accuracy")
    )


@pytest.mark.slow
@pytest.mark.parametrize(("num", "held_out"), [(3, 0.5), (30, 0.0)])
def test_too_little_is_said_gently(tiny_model: Path, tmp_path: Path, num: int, held_out: float) -> None:
    """Three pictures; none held out. It measures what it can, and says what it did instead."""
    write_shapes(tmp_path / "few", num, seed=4, size=32)
    pipeline, _ = opened(tiny_model, tmp_path / "few", tmp_path / "cache")
    config = replace(pipeline.config, train=replace(pipeline.config.train, held_out=held_out))
    encoder = pipeline.denoiser.encoder
    data = finished(open_eval_data(find(tiny_model), config, encoder, str(tmp_path / "few"), tmp_path / "cache"))
    result, _ = finished(evaluate(pipeline, data, 0, replace(SMALL, num=8, samples=8)))
    assert result.quality is None
    assert result.noise.gauge_overall is None
    assert (result.copies is None) == (num == 3)
    notes = " ".join(result.notes)
    assert ("too few to search for copies" if num == 3 else "no pictures are held out") in notes
    assert verdict(result)
    json.loads(to_json(result))


@pytest.mark.slow
def test_one_caption_for_all_cannot_tell_who_listens(cautious: Path, drawings: Path, cache: Path) -> None:
    pipeline, data = opened(cautious, drawings, cache)
    data.dataset.choices[:] = [[0]] * 240
    result, _ = finished(evaluate(pipeline, data, 0, replace(SMALL, num=8, samples=4)))
    assert result.caption_use is None
    assert any("same caption" in note for note in result.notes)
