"""Evaluation data: training pictures and unseen ones, from a folder or a cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.evaluation.conftest import opened

from tintype.data.cache.open_or_build import build_cache
from tintype.data.images.decode import preprocess_for
from tintype.data.sources.find import find_pairs
from tintype.data.thread_pool import finished
from tintype.errors import ConfigError, DataError
from tintype.pipeline.pipeline import Pipeline


def test_pictures_that_were_never_trained_on_count_as_unseen(
    cautious: Path, drawings: Path, cache: Path, tmp_path: Path
) -> None:
    """With data.json beside a model, what is not on record was not seen."""
    _, data = opened(cautious, drawings, cache)
    assert not data.has_record
    half = [{"sha256": data.dataset.sha256[index]} for index in range(0, 240, 2)]
    model = tmp_path / "model"
    model.mkdir()
    for path in cautious.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    (model / "data.json").write_text(json.dumps({"samples": half, "fingerprint": "other"}), encoding="utf-8")
    _, known = opened(model, drawings, cache)
    assert known.has_record
    assert set(known.seen.tolist()) == set(data.seen.tolist()) & set(range(0, 240, 2))
    assert len(known.seen) + len(known.unseen) == 240


@pytest.mark.parametrize(
    "content", ["", "[]", '{"samples": 7}', '{"samples": [7]}', '{"samples": [{}]}', "[" * 100_000]
)
def test_a_record_of_odd_content_is_an_error_in_words(
    cautious: Path, drawings: Path, cache: Path, tmp_path: Path, content: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(cautious, model)
    (model / "data.json").write_text(content)
    with pytest.raises(DataError, match=r"data\.json is damaged; restore it"):
        opened(model, drawings, cache)


def test_without_data_there_is_advice(cautious: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --data"):
        opened(cautious, None, cautious)
    model = tmp_path / "model"  # with a cache of a version that can no longer be read
    shutil.copytree(cautious, model)
    (model / "data.json").write_text('{"samples": [{"sha256": "0"}], "fingerprint": "1"}', encoding="utf-8")
    (model / "pack" / "pack-1").mkdir(parents=True)
    (model / "pack" / "pack-1" / "pack.json").write_text('{"format": 0}', encoding="utf-8")
    with pytest.raises(ConfigError, match="give --data"):
        opened(model, None, tmp_path)


@pytest.mark.slow
def test_drawn_shapes_are_known_by_their_mark_and_not_by_words(
    cautious: Path, drawings: Path, cache: Path, tmp_path: Path
) -> None:
    assert opened(cautious, drawings, cache)[1].is_drawn
    zipped = shutil.make_archive(str(tmp_path / "drawings"), "zip", drawings)
    assert opened(cautious, Path(zipped), cache)[1].is_drawn
    older = tmp_path / "older"  # of a version that left no mark: known by its names
    shutil.copytree(drawings, older)
    (older / "shapes.json").unlink()
    assert opened(cautious, older, cache)[1].is_drawn
    own = tmp_path / "own"  # photos of toys, say, captioned in the same words
    shutil.copytree(older / "images", own)
    for path in own.iterdir():
        path.with_suffix(".txt").write_text("a red circle left of a blue square", encoding="utf-8")
    assert not opened(cautious, own, cache)[1].is_drawn
    (own / "shapes.json").write_text('{"shapes": ["circle"]}', encoding="utf-8")
    assert not opened(cautious, own, cache)[1].is_drawn
    both = tmp_path / "both.txt"  # a marked source does not make all of a list drawn
    (own / "000000.txt").write_text("my cat on a sofa", encoding="utf-8")
    for path in sorted(own.glob("*.txt"))[:40]:
        path.write_text(f"my cat {path.stem}", encoding="utf-8")
    both.write_text(f"{drawings}\n{own}\n", encoding="utf-8")
    assert not opened(cautious, both, cache)[1].is_drawn


def test_a_run_keeps_the_mark_of_its_data(cautious: Path, drawings: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(cautious, run)
    pipeline = Pipeline.load(run, "cpu")
    preprocess = preprocess_for(16, pipeline.config.data, pipeline.config.net.patch)
    renamed = tmp_path / "renamed"
    shutil.copytree(drawings / "images", renamed)
    rows = [json.loads(line) for line in (drawings / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps(row | {"file_name": Path(row["file_name"]).name}) for row in rows]
    (renamed / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    shutil.copy(drawings / "shapes.json", renamed)
    pairs, problems = find_pairs(renamed, pipeline.config.data)
    cache = finished(build_cache(pairs, preprocess, run / "pack", pipeline.denoiser.encoder, problems))
    assert cache.data_json()["drawn_shapes"]
    (run / "data.json").write_text(json.dumps(cache.data_json()), encoding="utf-8")
    assert opened(run, None, tmp_path / "unused")[1].is_drawn
    (run / "data.json").write_text(json.dumps(cache.data_json() | {"drawn_shapes": False}), encoding="utf-8")
    assert not opened(run, None, tmp_path / "unused")[1].is_drawn


def test_a_run_is_evaluated_on_the_training_copy_it_keeps(cautious: Path, drawings: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(cautious, run)
    pipeline = Pipeline.load(run, "cpu")
    preprocess = preprocess_for(16, pipeline.config.data, pipeline.config.net.patch)
    pairs, _ = find_pairs(drawings, pipeline.config.data)
    cache = finished(build_cache(pairs, preprocess, run / "pack", pipeline.denoiser.encoder))
    (run / "data.json").write_text(json.dumps(cache.data_json()), encoding="utf-8")
    _, alone = opened(run, None, tmp_path / "unused")
    _, given = opened(run, drawings, tmp_path / "unused")
    assert alone.has_record
    assert alone.dataset.folder == given.dataset.folder == cache.folder
    assert torch.equal(alone.seen, given.seen)
    assert not (tmp_path / "unused").exists()
