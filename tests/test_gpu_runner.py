"""The command that runs the tests on a GPU: where there is none it says so, and its table has every test."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_tests", ROOT / "dev" / "gpu_tests.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_tests"] = module  # where dataclasses look up their annotations
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "")  # the module sets it for its own process
        spec.loader.exec_module(module)
    return module


def test_without_the_device_nothing_runs_and_it_says_so(runner: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--device", "cuda:99"]) == 5
    printed = capsys.readouterr()
    assert printed.err.startswith(f"no GPU: torch {torch.__version__} finds no device 'cuda:99'")
    assert printed.err.endswith("nothing was tested\n")
    assert runner.missing("cpu") == ""


def report(nodeid: str, outcome: str, longrepr: Any = None) -> Any:
    return SimpleNamespace(nodeid=nodeid, outcome=outcome, duration=0.25, longrepr=longrepr)


def test_the_table_has_every_test_once_with_its_reason(runner: ModuleType) -> None:
    table = runner.Table()
    crash = SimpleNamespace(reprcrash=SimpleNamespace(message="AssertionError: assert 1 == 2\n  more"))
    for nodeid, outcome, longrepr in (
        ("tests/a.py::good", "passed", None),
        ("tests/a.py::good", "passed", None),
        ("tests/a.py::bad", "failed", crash),
        ("tests/a.py::bad", "passed", None),
        ("tests/a.py::not_here", "skipped", ("a.py", 3, "Skipped: torch finds no GPU")),
    ):
        table.pytest_runtest_logreport(report(nodeid, outcome, longrepr))
    assert [line.split() for line in table.lines()] == [
        ["a.py::good", "passed", "0.50", "s"],
        ["a.py::bad", "failed", "0.50", "s", "AssertionError:", "assert", "1", "==", "2"],
        ["a.py::not_here", "skipped", "0.25", "s", "torch", "finds", "no", "GPU"],
        ["1", "passed,", "1", "failed,", "1", "skipped"],
    ]


def test_files_with_tests_for_a_gpu_are_found(runner: ModuleType) -> None:
    names = {Path(path).name for path in runner.files()}
    assert {"test_gpu.py", "test_resume.py", "test_kill.py", "test_exactness.py", "test_noise_rounding.py"} <= names
    assert "test_page.py" not in names
