"""The public names are a list: adding or losing one is a decision, seen here."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest

import tintype

PUBLIC = {
    "Pipeline",
    "Step",
    "Receipt",
    "Denoiser",
    "Conditioning",
    "Trainer",
    "Config",
    "TintypeError",
    "ConfigError",
    "DataError",
    "CheckpointError",
    "TrainingError",
    "MissingExtraError",
    "__version__",
}


def test_the_public_names_are_these() -> None:
    assert set(tintype.__all__) == PUBLIC
    assert all(getattr(tintype, name) is not None for name in PUBLIC)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="sepia"):
        tintype.sepia  # noqa: B018


def test_the_package_metadata_take_the_version_from_one_file() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "src/tintype/_version.py"
    assert importlib.metadata.version("tintype") == tintype.__version__
