"""JavaScript and diffusers for all tests of exports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.export.javascript import Run, find_node, in_browser, in_node

from tintype.export.forms import export_model
from tintype.pipeline.pipeline import Pipeline


@pytest.fixture(scope="module")
def javascript(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs JavaScript with all that the page computes with; whoever wants it is skipped without Node and Chromium."""
    node = find_node()
    if node is not None:
        return in_node(node, tmp_path_factory.mktemp("javascript"))
    return in_browser(request.getfixturevalue("browser"))


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans for few numbers of steps only, which are made sooner."""
    monkeypatch.setattr("tintype.export.plans.MAX_STEPS", 4)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder for models."""
    return tmp_path / "models"


@pytest.fixture(scope="session")
def diffusers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The library, silent, with a folder of its own for the code that it copies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        import diffusers

        diffusers.logging.set_verbosity_error()
        diffusers.logging.disable_progress_bar()
        yield diffusers


@pytest.fixture(scope="session")
def diffusers_folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as an export for diffusers."""
    return export_model(tiny_model, tmp_path_factory.mktemp("exports") / "cats", to="diffusers", license="MIT")


@pytest.fixture
def loaded(diffusers: Any, diffusers_folder: Path) -> Any:
    """The pipeline as it comes out of the folder."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        str(diffusers_folder), custom_pipeline=str(diffusers_folder), trust_remote_code=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def pipe(diffusers: Any, loaded: Any) -> Any:
    """The pipeline with a scheduler whose pictures are those of dpmpp_2m."""
    loaded.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(loaded.scheduler.config)
    return loaded


@pytest.fixture(scope="module")
def tintype(diffusers_folder: Path) -> Pipeline:
    return Pipeline.load(diffusers_folder, "cpu")
