"""JavaScript for all tests of exports."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.export.javascript import Run, find_node, in_browser, in_node


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
