"""A small folder of shapes, a tiny model with a third of them held out, and one evaluation of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tintype.data.thread_pool import finished
from tintype.evaluation.eval_data import EvalData, open_eval_data
from tintype.evaluation.measure import evaluate
from tintype.evaluation.results import EvalResult, EvalSettings, ReportData
from tintype.model.store import find
from tintype.pipeline.pipeline import Pipeline
from tintype.shapes.write import write_shapes

SMALL = EvalSettings(num=24, samples=64, copies=64, captions=8)


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 drawings of shapes."""
    folder = tmp_path_factory.mktemp("data") / "drawings"
    write_shapes(folder, 240, seed=3, size=32)
    return folder


@pytest.fixture(scope="session")
def cautious(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with a third of its pictures held out."""
    folder = tmp_path_factory.mktemp("models") / "cautious"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["train"]["held_out"] = 0.33
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of caches for all tests."""
    return tmp_path_factory.mktemp("cache")


def opened(model: Path, data: Path | None, cache: Path) -> tuple[Pipeline, EvalData]:
    pipeline = Pipeline.load(model, "cpu")
    encoder = pipeline.denoiser.encoder
    source = None if data is None else str(data)
    return pipeline, finished(open_eval_data(find(model), pipeline.config, encoder, source, cache))


@pytest.fixture(scope="session")
def evaluated(cautious: Path, drawings: Path, cache: Path) -> tuple[EvalResult, ReportData]:
    """One evaluation."""
    pipeline, data = opened(cautious, drawings, cache)
    return finished(evaluate(pipeline, data, 1000, SMALL))
