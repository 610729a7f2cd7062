"""A file imports only from floors below it, never in a circle, and uses nothing that can run stored code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "tintype"

# Top rooms from the ground up: a file imports only from its own room and from rooms before it in this list.
ROOMS = (
    "errors",
    "printable",
    "_version",
    "diffusion",
    "copies",
    "config",
    "model",
    "pipeline",
    "view",
    "data",
    "shapes",
    "metrics",
    "training",
    "tokens",
    "export",
    "evaluation",
    "serving",
    "studio",
    "cli",
    "__main__",
)
# Inside a room, the same for its folders and modules. Those that stand together in a tuple are one floor: they may
# import each other, as long as no modules import in a circle.
FLOORS: dict[str, tuple[str | tuple[str, ...], ...]] = {
    "config": ("sizes", "sections", "check", ("data_options", "config")),
    "model": (
        ("aspect_buckets", "atomic_write", "file_names", "meta_device", "read_file"),
        ("custom", "manifest", "sample_captions"),
        "nets",
        ("network", "codec"),
        ("denoiser", "checkpoint"),
        "hub",
        "store",
    ),
    "data": (
        ("order", "sides", "split", "process_pool", "thread_pool"),
        "sources",
        "images",
        "check",
        "cache",
        "dataset",
    ),
    "training": (
        ("console", "signals"),
        "parallel",
        "core",
        "checkpoints",
        "setup",
        "monitor",
        ("model_card", "export"),
        ("saving", "summary"),
        "finish",
        "session",
        "run",
        "api",
    ),
    "export": (
        ("options", "record"),
        ("card", "sampling", "target", "payload", "wat"),
        ("plans", "encoder"),
        ("description", "folder", "onnx"),
        ("page", "diffusers"),
        ("forms", "push"),
        "importing",
    ),
    "serving": (("settings", "logs", "catalog", "writers"), ("exporter", "extension"), "engine", "api", "server"),
    "studio": (
        ("places", "process", "settings", "access", "thumbnails", "captioners", "caption_model", "run_notes"),
        ("table", "record"),
        ("dataset", "edits", "trash", "run_queue", "tasks"),
        ("scan", "legibility", "uploads", "caption_files", "run_list"),
        ("verdict", "suggest"),
        ("studio", "worker"),
        "routes",
        "extension",
    ),
    "cli": (("options", "progress"), "run", "commands", "main"),
}
RUNS_STORED_CODE = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def source_files() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def module_of(file: Path) -> tuple[str, ...]:
    """The dotted name of a file below tintype, in parts: ("training", "run") for training/run.py."""
    parts = file.relative_to(SRC).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts


def imports(tree: ast.AST, file: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Everything that a file imports, anywhere in it: (line, parts of the full dotted name)."""
    package = ["tintype", *file.relative_to(SRC).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, tuple(alias.name.split("."))) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = [*above, *(node.module.split(".") if node.module else [])]
            yield from ((node.lineno, (*module, alias.name)) for alias in node.names)


def floor_of(room: str, inside: str) -> int:
    """The floor of a module or folder within its room; one that is listed nowhere raises LookupError."""
    for number, names in enumerate(FLOORS[room]):
        if inside == names or (inside in names and not isinstance(names, str)):
            return number
    raise LookupError(f"{room}/{inside} has no floor; give it one in FLOORS")


def wrong_imports(code: str, file: Path) -> list[str]:
    """What a file imports that its floor does not allow, one line each."""
    own, wrong = module_of(file), []
    if own == ("__init__",):
        return []  # holds public names and nothing else, and loads them when asked
    if own[0] not in ROOMS:
        return [f"{file.name}: the room {own[0]} has no floor; give it one in ROOMS and in docs/design.md"]
    for line, name in imports(ast.parse(code), file):
        where, other = f"{file.relative_to(SRC)}:{line}", name[1:]
        if name[0] != "tintype":
            if own[0] == "diffusion" and name[0] != "torch" and name[0] not in sys.stdlib_module_names:
                wrong.append(f"{where}: diffusion/ is tensor math and must not import {name[0]}")
        elif not other or other[0] not in ROOMS:
            wrong.append(f"{where}: {'.'.join(name)} is a public name; import it from the room that defines it")
        elif other[0] == own[0]:
            if own[0] in FLOORS and len(own) > 1 and other[1:] and own[1] != other[1]:
                if floor_of(own[0], other[1]) > floor_of(own[0], own[1]):
                    wrong.append(f"{where}: {own[0]}/{own[1]} must not import {other[1]}, which is above it")
        elif own[0] == "diffusion":
            wrong.append(f"{where}: diffusion/ must not import {'.'.join(name)}")
        elif ROOMS.index(other[0]) > ROOMS.index(own[0]):
            wrong.append(f"{where}: {own[0]} must not import {other[0]}, which is above it")
    return wrong


def import_graph() -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """Module -> modules of the package that it imports, also inside functions."""
    modules = {module_of(file): file for file in source_files()}
    graph: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for module, file in modules.items():
        names = [name[1:] for _, name in imports(ast.parse(file.read_text(encoding="utf-8")), file) if name[1:]]
        imported = {name if name in modules else name[:-1] for name in names}
        graph[module] = (imported & set(modules)) - {module}
    return graph


def circle_in(graph: dict[tuple[str, ...], set[tuple[str, ...]]]) -> list[tuple[str, ...]]:
    """A circle of modules that import each other, or an empty list."""
    done: set[tuple[str, ...]] = set()

    def visit(module: tuple[str, ...], way: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module not in done:
            for other in sorted(graph[module]):
                if circle := visit(other, [*way, module]):
                    return circle
            done.add(module)
        return []

    return next((circle for module in sorted(graph) if (circle := visit(module, []))), [])


def reads_only_numbers(call: ast.Call) -> bool:
    """Whether a call of torch.load is told to read tensors alone."""
    return any(
        keyword.arg == "weights_only" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        for keyword in call.keywords
    )


def risky(code: str) -> list[str]:
    """What a file uses that could run code stored in a file, one line each."""
    risky_names = []
    tree = ast.parse(code)
    harmless = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and reads_only_numbers(node)}
    for node in ast.walk(tree):
        names: list[str] = []
        if id(node) in harmless:
            continue
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
                risky_names.append(f"{node.lineno}: {name}")  # type: ignore[attr-defined]
        if isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle"):
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                risky_names.append(f"{node.value.lineno}: {node.arg}")
    return risky_names


@pytest.mark.parametrize("file", source_files(), ids=lambda file: file.relative_to(SRC).as_posix())
def test_a_file_imports_nothing_from_above(file: Path) -> None:
    assert wrong_imports(file.read_text(encoding="utf-8"), file) == []


@pytest.mark.parametrize("file", source_files(), ids=lambda file: file.relative_to(SRC).as_posix())
def test_no_file_can_run_stored_code(file: Path) -> None:
    assert risky(file.read_text(encoding="utf-8")) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle_in(import_graph()) == []


def test_every_folder_and_module_of_a_room_with_floors_has_one() -> None:
    for file in source_files():
        room, *inside = module_of(file)
        if room in FLOORS and inside:
            floor_of(room, inside[0])


def test_a_circle_is_found() -> None:
    a, b, c, d = ("a",), ("b",), ("c",), ("d",)
    assert circle_in({a: {b}, b: {c}, c: {a}, d: {a}}) == [a, b, c, a]
    assert circle_in({a: {b, c}, b: {c}, c: set(), d: {a}}) == []


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("model/nets/dit.py", "import tintype.pipeline"),
        ("model/nets/dit.py", "def late():\n    from tintype import pipeline"),
        ("model/nets/dit.py", "from ...training.core.ema import Ema"),
        ("model/nets/dit.py", "from ... import cli"),
        ("model/nets/dit.py", "from tintype.model.denoiser import Denoiser"),
        ("model/nets/dit.py", "from tintype.model import denoiser"),
        ("diffusion/loss.py", "from tintype.errors import ConfigError"),
        ("diffusion/loss.py", "import numpy"),
        ("pipeline/receipt.py", "from tintype.training.run import train"),
        ("training/core/trainer.py", "from tintype.training.checkpoints.checkpointer import Checkpointer"),
        ("data/sources/find.py", "from tintype.data.cache import index"),
        ("cli/main.py", "from tintype import Pipeline"),
        ("attic.py", ""),
    ],
)
def test_a_wrong_import_is_found(file: str, code: str) -> None:
    assert len(wrong_imports(code, SRC / file)) == 1


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("diffusion/loss.py", "import math\nimport torch\nfrom . import sigmas\nfrom tintype.diffusion import noise"),
        ("training/run.py", "from tintype.pipeline.pipeline import Pipeline\nfrom ..data import cache"),
        ("cli/main.py", "from tintype._version import __version__\nfrom tintype.serving.server import serve"),
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
        "import torch\ntorch.load('weights.pt', weights_only=False)",
        "import torch\ntorch.load('weights.pt', weights_only=maybe)",
        "from torch import load",
        "load(trust_remote_code=True)",
        "np.load('a.npy', allow_pickle=maybe)",
        "eval('1')",
    ],
)
def test_running_stored_code_is_found(code: str) -> None:
    assert risky(code)


def test_reading_numbers_is_no_risk() -> None:
    assert risky("import torch\ntorch.load('weights.pt', weights_only=True)") == []


def test_importing_tintype_does_not_import_torch() -> None:
    code = "import sys, tintype; print(sorted({'torch', 'numpy', 'PIL', 'transformers'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
