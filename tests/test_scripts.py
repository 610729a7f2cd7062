"""bench/, dev/ and examples/ are not type-checked with the package; what they take from it must at least be there."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted([*ROOT.glob("bench/*.py"), *ROOT.glob("dev/*.py"), *ROOT.glob("examples/*.py")])


def imported_names(script: Path) -> list[tuple[str, str]]:
    """(module, name) of every `from tintype... import name`, in functions too."""
    nodes = ast.walk(ast.parse(script.read_text(encoding="utf-8")))
    imports = [
        node for node in nodes if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "tintype"
    ]
    return [(str(node.module), alias.name) for node in imports for alias in node.names]


def is_there(module: str, name: str) -> bool:
    if hasattr(importlib.import_module(module), name):
        return True
    try:
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_takes_only_what_the_package_has(script):
    try:
        missing = [f"{module}.{name}" for module, name in imported_names(script) if not is_there(module, name)]
    except ModuleNotFoundError as error:
        if str(error.name).startswith("tintype"):
            raise
        pytest.skip(f"needs {error.name}")
    assert not missing


def test_names_that_are_gone_are_found():
    assert is_there("tintype.data.images.resize", "crop_and_resize")
    assert is_there("tintype.data.images", "resize")
    assert not is_there("tintype.data.images.decode", "crop_and_resize")
