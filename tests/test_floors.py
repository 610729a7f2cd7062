"""A file imports only from lower floors or its own room, and uses nothing that can run stored code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "tintype"

FLOORS = {
    "errors": 0,
    "config": 0,
    "diffusion": 0,
    "nets": 1,
    "options": 1,
    "checks": 1,
    "canvas": 1,
    "statistics": 1,
    "writing": 1,
    "denoiser": 2,
    "codec": 2,
    "checkpoint": 3,
    "data": 3,
    "sheet": 3,
    "models": 4,
    "by_heart": 4,
    "train": 4,
    "pipeline": 4,
    "receipt": 4,
    "request": 4,
    "answers": 4,
    "starting": 4,
    "evaluate": 5,
    "serve": 6,
    "show": 6,
    "preview": 6,
    "making": 6,
    "checking": 6,
    "commands": 7,
    "cli": 8,
    "__main__": 9,
}
# On one floor a room may look into these others: training makes samples through the pipeline.
NEIGHBORS = {
    "config": {"errors"},
    "train": {"by_heart", "pipeline", "receipt", "request", "models"},
    "pipeline": {"answers", "starting", "receipt", "request", "models"},
    "answers": {"request"},
    "receipt": {"request"},
    "making": {"preview"},
    "starting": {"request"},
}
RUNS_STORED_CODE = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def source_files() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def room_of(file: Path) -> str:
    """The first name under tintype: `train` for train/trainer.py, `cli` for cli.py."""
    return file.relative_to(SRC).parts[0].removesuffix(".py")


def imports(tree: ast.AST, file: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, anywhere in it, by its full dotted name: (line, name)."""
    package = ["tintype", *file.relative_to(SRC).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            # `from tintype import pipeline` imports the room, `from tintype.errors import DataError` a name in it
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "tintype" else [module]
            yield from ((node.lineno, name) for name in names)


def wrong_imports(code: str, file: Path) -> list[str]:
    """What a file imports that its floor does not allow, one line each."""
    room, wrong = room_of(file), []
    if room == "__init__":
        return []  # holds public names and nothing else, and loads them when asked
    if room not in FLOORS:
        return [f"{file.name}: the room {room} has no floor; give it one in FLOORS and in README.md"]
    for line, name in imports(ast.parse(code), file):
        parts = name.split(".")
        where = f"{file.relative_to(SRC)}:{line}"
        if parts[0] != "tintype":
            if room == "diffusion" and parts[0] != "torch" and parts[0] not in sys.stdlib_module_names:
                wrong.append(f"{where}: diffusion/ is tensor math and must not import {name}")
            continue
        other = parts[1] if len(parts) > 1 else ""
        if other in (room, "__version__"):
            continue
        if other not in FLOORS:
            wrong.append(f"{where}: {name} is a public name; import it from the room that defines it")
        elif room == "diffusion":
            wrong.append(f"{where}: diffusion/ must not import {name}")
        elif FLOORS[other] >= FLOORS[room] and other not in NEIGHBORS.get(room, set()):
            wrong.append(f"{where}: {room} (floor {FLOORS[room]}) must not import {other} (floor {FLOORS[other]})")
    return wrong


def risky(code: str) -> list[str]:
    """What a file uses that could run code stored in a file, one line each."""
    found = []
    for node in ast.walk(ast.parse(code)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [f"{node.value.id}.{node.attr}"]
        elif isinstance(node, ast.Name):
            names = [node.id]
        for name in names:
            if name.split(".")[0] in RUNS_STORED_CODE or name in ("torch.load", "eval", "exec", "__import__"):
                found.append(f"{node.lineno}: {name}")  # type: ignore[attr-defined]
        if isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle"):
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                found.append(f"{node.value.lineno}: {node.arg}")
    return found


@pytest.mark.parametrize("file", source_files(), ids=lambda file: file.relative_to(SRC).as_posix())
def test_a_file_imports_only_from_lower_floors(file: Path) -> None:
    assert wrong_imports(file.read_text(encoding="utf-8"), file) == []


@pytest.mark.parametrize("file", source_files(), ids=lambda file: file.relative_to(SRC).as_posix())
def test_no_file_can_run_stored_code(file: Path) -> None:
    assert risky(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("nets/dit.py", "import tintype.pipeline.pipeline"),
        ("nets/dit.py", "def late():\n    from tintype import denoiser"),
        ("nets/dit.py", "from ..train.ema import Ema"),
        ("nets/dit.py", "from .. import cli"),
        ("diffusion/loss.py", "from tintype.errors import ConfigError"),
        ("diffusion/loss.py", "import numpy"),
        ("receipt.py", "from tintype.pipeline import Pipeline"),
        ("pipeline.py", "from tintype.train.log import read"),
        ("codec.py", "from tintype.denoiser import Denoiser"),
        ("cli.py", "from tintype import Pipeline"),
        ("attic.py", ""),
    ],
)
def test_a_wrong_import_is_found(file: str, code: str) -> None:
    assert len(wrong_imports(code, SRC / file)) == 1


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (
            "diffusion/loss.py",
            "import math\nimport torch\nfrom . import sigmas\nfrom tintype.diffusion import noise",
        ),
        (
            "train/run.py",
            "from tintype.pipeline import Pipeline\nfrom .. import receipt\nfrom tintype.data import pack",
        ),
        ("cli.py", "from tintype import __version__\nfrom tintype.serve.api import serve"),
    ],
)
def test_a_right_import_is_allowed(file: str, code: str) -> None:
    assert wrong_imports(code, SRC / file) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('weights.pt')",
        "from torch import load",
        "load(trust_remote_code=True)",
        "np.load('a.npy', allow_pickle=maybe)",
        "eval('1')",
    ],
)
def test_running_stored_code_is_found(code: str) -> None:
    assert risky(code)


def test_importing_tintype_does_not_import_torch() -> None:
    code = "import sys, tintype; print(sorted({'torch', 'numpy', 'PIL', 'transformers'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
