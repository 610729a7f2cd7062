"""The public names are a list: adding or losing one is a decision, seen here."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tintype

PUBLIC = {
    *("Options", "Pipeline", "Step", "Query", "Receipt", "SAMPLERS", "SCHEDULES", "sample"),
    *("train", "StepReport", "Trainer", "Denoiser", "Conditioning", "Config", "Dataset", "load_dataset"),
    *("Network", "CaptionKV", "export_model", "import_model", "TokenWriter"),
    *("CaptionedImages", "Prediction", "Scalings", "NoiseLevelSampler", "LossWeight", "OptimizerFactory"),
    *("TintypeError", "ConfigError", "DataError", "CheckpointError", "TrainingError", "MissingExtraError"),
    "__version__",
}
PLAIN = {name for name in PUBLIC if name.endswith("Error")}
HELPED = PUBLIC - {"SAMPLERS", "SCHEDULES", "__version__"}


def test_the_public_names_are_these() -> None:
    assert set(tintype.__all__) == PUBLIC
    assert all(getattr(tintype, name) is not None for name in PUBLIC)


def test_dir_shows_the_public_names_and_nothing_else() -> None:
    assert dir(tintype) == sorted(PUBLIC)


@pytest.mark.slow
def test_training_is_a_function_also_when_its_modules_were_imported_before() -> None:
    code = "import tintype.training.run, tintype.training.api, tintype; print(callable(tintype.train))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "True"


@pytest.mark.parametrize("name", sorted(HELPED))
def test_help_says_how_a_name_is_used(name: str) -> None:
    value = getattr(tintype, name)
    text = inspect.getdoc(value) or ""
    assert len(text) > (40 if name not in PLAIN else 20), text
    assert "Alias for field" not in text


def test_the_api_reference_has_every_name() -> None:
    page = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
    errors = {name for name in PUBLIC if name.endswith("Error")}
    names = PUBLIC - errors - {"__version__"}
    assert {
        name for name in names if not re.search(rf"(^::: tintype\S*|`tintype)\.{name}\b", page, re.MULTILINE)
    } == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="sepia"):
        tintype.sepia  # noqa: B018


def test_the_package_metadata_take_the_version_from_one_file() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "src/tintype/_version.py"
    assert importlib.metadata.version("tintype") == tintype.__version__
