"""The tests that need a GPU, on the GPU of this machine, with a table of what ran.

    python dev/gpu_tests.py [--device cuda] [--all] [--json FILE] [PYTEST OPTIONS ...]

Needs PyTorch, pytest, hypothesis and the package's own dependencies, and nothing of what else a container has: plugins
of pytest are not loaded. `--all` also runs the tests that need no GPU, which need the extra `test`. `--device cpu`
checks the tests themselves where there is no GPU.

Exit code: 0 all that ran passed, 1 some failed, 5 (pytest's own for "no tests ran") there is no such device.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # pytest-benchmark warns beside xdist, and warnings are errors here

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
NO_DEVICE = 5
REASON = 120  # characters of a reason
_MARKS = ("mark.gpu", "device: torch.device")  # in the files that have tests for a GPU


@dataclass
class Row:
    """What became of one test."""

    test: str
    outcome: str  # passed, failed or skipped
    seconds: float
    reason: str = ""


class Table:
    """A plugin of pytest that keeps what became of each test, and prints it after the last."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        row = self.rows.setdefault(report.nodeid, Row(report.nodeid.removeprefix("tests/"), "passed", 0.0))
        row.seconds += report.duration
        if report.outcome != "passed":
            row.outcome, row.reason = report.outcome, reason_of(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("what ran")
        for line in self.lines():
            terminalreporter.write_line(line)

    def lines(self) -> list[str]:
        """The rows and their totals, in words."""
        rows = list(self.rows.values())
        width = max((len(row.test) for row in rows), default=0)
        lines = [f"{row.test:{width}}  {row.outcome:7} {row.seconds:8.2f} s  {row.reason}".rstrip() for row in rows]
        counts = {outcome: sum(row.outcome == outcome for row in rows) for outcome in ("passed", "failed", "skipped")}
        return [*lines, ", ".join(f"{num} {outcome}" for outcome, num in counts.items())]


def reason_of(report: pytest.TestReport) -> str:
    """Why a test failed or was skipped, in one line."""
    if isinstance(report.longrepr, tuple):  # file, line, reason
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(getattr(crash, "message", report.longrepr or "")).split("\n")[0][:REASON]


def missing(device: str) -> str:
    """Why tests cannot run on a device, in words; "" if they can."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        return f"no GPU: torch {torch.__version__} finds no device {device!r} ({str(error).splitlines()[0]})"
    return ""


def files() -> list[str]:
    """The test files with tests for a GPU: a bare container may lack what the others import."""
    found = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path) for path in found if any(mark in path.read_text(encoding="utf-8") for mark in _MARKS)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The tests that need a GPU.", epilog="Other options go to pytest.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--all", action="store_true", help="also the tests that need no GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table there")
    options, more = parser.parse_known_args(arguments)
    if reason := missing(options.device):
        print(f"{reason}; nothing was tested", file=sys.stderr)
        return NO_DEVICE
    name = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else "which is no GPU"
    print(f"tests on {options.device}, {name}; torch {torch.__version__}")
    marks = "gpu or (not slow and not needs_data)" if options.all else "gpu"
    table = Table()
    own = ["--rootdir", str(ROOT), "-p", "no:cacheprovider", "-m", marks, "--gpu-device", options.device]
    paths = [str(ROOT / "tests")] if options.all else files()
    code = int(pytest.main([*own, *more, *paths], plugins=[table]))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in table.rows.values()], indent=1) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
