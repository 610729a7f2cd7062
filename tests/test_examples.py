"""Every example runs from a folder of its own, and says what it promises; the notebook runs without Jupyter."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
TINY = {  # the argument that makes an example tiny, and what it then prints
    # onnx_draw.py draws with a model that tests/export/test_onnx.py exports.
    "own_data.py": (
        "64",
        r"96 pictures with 192 captions can be used(.|\n)*a-tall-red-bar\.png: mean color",
    ),
    "own_network.py": ("64", r"64 images: loss [\d.]+\n[\d,]+ weights in the network\nunet\.png"),
    "own_prediction.py": ("64", r"as-configured: error of the predicted noise(.|\n)*own-prediction: error of the"),
    "own_sampler.py": ("1", r"euler  [\d.]+\n +adams_bashforth  [\d.]+"),
    "train_from_python.py": ("64", r"64 images: error of the predicted noise(.|\n)*of 2 pictures show what"),
}


def test_every_example_is_run() -> None:
    assert {*TINY, "onnx_draw.py"} == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_and_says_how_it_is_run(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert 30 <= len(text.splitlines()) <= 80
    assert f"python examples/{path.name} [" in str(ast.get_docstring(ast.parse(text)))


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_an_example_runs_from_an_empty_folder(tmp_path: Path, name: str) -> None:
    argument, prints = TINY[name]
    command = [sys.executable, str(EXAMPLES / name), argument]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert re.search(prints, ran.stdout), ran.stdout
    assert "Warning" not in ran.stderr


def notebook(name: str) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))["cells"]
    return cells


def test_the_notebook_is_stored_without_outputs() -> None:
    for cell in notebook("noise_by_hand.ipynb"):
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@pytest.mark.slow
def test_the_notebook_runs_cell_by_cell() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(notebook("noise_by_hand.ipynb")):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), namespace)
    # What the text says: the loop by hand is the sampler euler, and the picture is inside the range of pixels.
    assert float((namespace["euler"] - namespace["by_hand"]).abs().max()) < 1e-5
    assert float(namespace["by_hand"].abs().max()) < 1.2
    between = (namespace["sigmas"] > 0.3) & (namespace["sigmas"] < 3)
    assert abs(int(between.sum()) - 12) <= 1
