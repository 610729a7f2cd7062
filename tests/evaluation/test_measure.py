"""A whole evaluation of a tiny model: what is in it, that it repeats, and what it says where there is little to do."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.evaluation.conftest import SMALL, opened

from tintype.data.cache.open_or_build import packing
from tintype.data.images.decode import preprocess_for
from tintype.data.sources.find import find_pairs
from tintype.data.thread_pool import finished
from tintype.errors import ConfigError
from tintype.evaluation.eval_data import open_eval_data
from tintype.evaluation.measure import evaluate
from tintype.evaluation.progress import StageProgress
from tintype.evaluation.results import EvalResult, ReportData, compare_results, to_json
from tintype.evaluation.verdict import verdict
from tintype.model.store import find
from tintype.pipeline.pipeline import Pipeline
from tintype.shapes.write import write_shapes


def test_everything_is_measured_where_there_is_enough_to_measure(evaluated: tuple[EvalResult, ReportData]) -> None:
    result, pictures = evaluated
    assert len(result.sigmas) == 16
    assert all(math.isfinite(one.value) for one in (*result.noise.unseen, *result.noise.seen, *result.noise.ideal))
    assert None not in (result.caption_use, result.copies, result.quality, result.accuracy)
    assert {line.topic for line in verdict(result)} >= {"noise", "captions", "copies", "accuracy", "quality"}
    assert len(pictures.samples) == 24
    assert len(pictures.neighbors) == 16
    assert result.about.num_seen + result.about.num_unseen == 240
    # A training set cannot be known better than by heart, and captions can only help with that.
    for ideal, blind in zip(result.noise.ideal, result.noise.ideal_no_captions, strict=True):
        assert ideal.value <= blind.value + 1e-9


def test_json_has_every_figure_and_no_infinities(evaluated: tuple[EvalResult, ReportData]) -> None:
    found = json.loads(to_json(evaluated[0]))
    assert found["noise"]["unseen"][0]["value"] == evaluated[0].noise.unseen[0].value
    assert set(found["accuracy"]["scores"]) == {"new", "held out", "chance"}


def test_the_same_seed_gives_the_same_figures_and_another_others(
    evaluated: tuple[EvalResult, ReportData], cautious: Path, drawings: Path, cache: Path
) -> None:
    pipeline, material = opened(cautious, drawings, cache)
    again, _ = finished(evaluate(pipeline, material, 1000, SMALL))

    def figures(result: EvalResult) -> str:
        return to_json(replace(result, seconds=0.0, about=replace(result.about, time="")))

    assert figures(again) == figures(evaluated[0])


def test_two_models_are_compared_on_the_same_pictures(evaluated: tuple[EvalResult, ReportData]) -> None:
    result, pictures = evaluated
    better = replace(pictures, unseen_errors=pictures.unseen_errors * 0.75)
    gap = compare_results((result, pictures), (result, better))
    assert gap is not None
    assert all(row["value"] == pytest.approx(0.25) and row["low"] == pytest.approx(0.25) for row in gap["gains"])
    elsewhere = replace(pictures, measured=pictures.measured[::-1])
    assert compare_results((result, pictures), (result, elsewhere)) is None


@pytest.mark.slow
def test_progress_is_told_stage_by_stage(cautious: Path, drawings: Path, cache: Path) -> None:
    pipeline, material = opened(cautious, drawings, cache)
    work, told = evaluate(pipeline, material, 0, SMALL), list[StageProgress]()
    for progress in work:
        told.append(progress)
        if progress.stage.startswith("caption accuracy"):
            work.close()
            break
    assert all(0 <= one.done <= one.total for one in told)
    last = {one.stage: one for one in told}
    assert all(one.done == one.total for stage, one in last.items() if not stage.startswith("caption accuracy"))


def test_pictures_that_were_never_trained_on_count_as_unseen(
    cautious: Path, drawings: Path, cache: Path, tmp_path: Path
) -> None:
    """With data.json beside a model, what is not on record was not seen."""
    _, material = opened(cautious, drawings, cache)
    assert not material.has_record
    half = [{"sha256": material.pack.sha256[index]} for index in range(0, 240, 2)]
    model = tmp_path / "model"
    model.mkdir()
    for path in cautious.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    (model / "data.json").write_text(json.dumps({"samples": half, "fingerprint": "other"}), encoding="utf-8")
    _, known = opened(model, drawings, cache)
    assert known.has_record
    assert set(known.seen.tolist()) == set(material.seen.tolist()) & set(range(0, 240, 2))
    assert len(known.seen) + len(known.unseen) == 240


def test_without_data_there_is_advice(cautious: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --data"):
        opened(cautious, None, cautious)
    model = tmp_path / "model"  # with a training copy of a version that can no longer be read
    shutil.copytree(cautious, model)
    (model / "data.json").write_text('{"samples": [{"sha256": "0"}], "fingerprint": "1"}', encoding="utf-8")
    (model / "pack" / "pack-1").mkdir(parents=True)
    (model / "pack" / "pack-1" / "pack.json").write_text('{"format": 0}', encoding="utf-8")
    with pytest.raises(ConfigError, match="give --data"):
        opened(model, None, tmp_path)


def test_a_run_is_evaluated_on_the_training_copy_it_keeps(cautious: Path, drawings: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(cautious, run)
    pipeline = Pipeline.load(run, "cpu")
    preprocess = preprocess_for(16, pipeline.config.data, pipeline.config.net.patch)
    pairs, _ = find_pairs(drawings, pipeline.config.data)
    made = finished(packing(pairs, preprocess, run / "pack", pipeline.denoiser.encoder))
    (run / "data.json").write_text(json.dumps(made.data_json()), encoding="utf-8")
    _, alone = opened(run, None, tmp_path / "unused")
    _, given = opened(run, drawings, tmp_path / "unused")
    assert alone.has_record
    assert alone.pack.folder == given.pack.folder == made.folder
    assert torch.equal(alone.seen, given.seen)
    assert not (tmp_path / "unused").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("num", "held_out"), [(3, 0.5), (30, 0.0)])
def test_too_little_is_said_gently(tiny_model: Path, tmp_path: Path, num: int, held_out: float) -> None:
    """Three pictures; none held out. It measures what it can, and says what it did instead."""
    write_shapes(tmp_path / "few", num, seed=4, size=32)
    pipeline, _ = opened(tiny_model, tmp_path / "few", tmp_path / "cache")
    config = replace(pipeline.config, train=replace(pipeline.config.train, held_out=held_out))
    encoder = pipeline.denoiser.encoder
    material = finished(open_eval_data(find(tiny_model), config, encoder, str(tmp_path / "few"), tmp_path / "cache"))
    result, _ = finished(evaluate(pipeline, material, 0, replace(SMALL, num=8, samples=8)))
    assert result.quality is None
    assert result.noise.gauge_overall is None
    assert (result.copies is None) == (num == 3)
    said = " ".join(result.notes)
    assert ("too few to search for copies" if num == 3 else "no pictures are held out") in said
    assert verdict(result)
    json.loads(to_json(result))


def test_one_caption_for_all_cannot_tell_who_listens(cautious: Path, drawings: Path, cache: Path) -> None:
    pipeline, material = opened(cautious, drawings, cache)
    material.pack.choices[:] = [[0]] * 240
    result, _ = finished(evaluate(pipeline, material, 0, replace(SMALL, num=8, samples=4)))
    assert result.caption_use is None
    assert any("same caption" in note for note in result.notes)


def test_the_ideal_takes_captions_and_weights_into_account(cautious: Path, drawings: Path, cache: Path) -> None:
    from tintype.evaluation.noise_error_bench import NoiseErrorBench, captioned_denoiser

    pipeline, material = opened(cautious, drawings, cache)
    sigmas = torch.tensor([1.0, 5.0])
    bench = NoiseErrorBench(captioned_denoiser(pipeline), material, sigmas, 0, pipeline.device)
    chosen = material.seen[:5]
    known, blind = finished(bench.ideal(chosen))
    assert bool((known <= blind + 1e-12).all())
    material.pack.choices[:] = [[0]] * 240
    same, blind_again = finished(bench.ideal(chosen))
    torch.testing.assert_close(same, blind)
    torch.testing.assert_close(blind_again, blind)
    material.pack.weights = torch.ones(240, dtype=torch.float64)
    material.pack.weights[material.seen[5:]] = 1e-12  # next to never shown: five pictures are left
    few, _ = finished(bench.ideal(chosen))
    assert float(few.mean()) < 0.5 * float(same.mean())
