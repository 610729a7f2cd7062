"""Commands and options load without torch, so that help, completion and mistakes in options answer at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
LIGHT = sorted(
    str(path.relative_to(SRC).with_suffix("")).replace("/", ".").removesuffix(".__init__")
    for path in (
        *(SRC / "tintype" / "cli" / "commands").glob("*.py"),
        SRC / "tintype" / "cli" / "options.py",
        SRC / "tintype" / "cli" / "main.py",
    )
)
HEAVY = {"torch", "numpy", "PIL", "safetensors", "transformers", "fastapi", "rich"}


def loaded_after(statement: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has imported after a statement."""
    code = f"import sys\n{statement}\nprint(*({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", LIGHT)
def test_a_command_is_imported_without_heavy_packages(module: str) -> None:
    assert loaded_after(f"import {module}") == set()


@pytest.mark.slow
def test_the_body_of_a_command_does_import_torch() -> None:
    assert "torch" in loaded_after("import tintype.cli.run.evaluate")


def test_help_does_not_wait_for_heavy_packages() -> None:
    assert loaded_after("from tintype.cli.main import parser; parser()") == set()
