"""requirements.lock pins what constraints.txt pins, with a hash for each package but PyTorch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
HASH = "--hash=sha256:" + 64 * "0"


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lock", ROOT / "dev" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_line_has_a_hash(lock: ModuleType) -> None:
    assert lock.problems_of(lock.LOCK.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line", ["numpy==2.0", "numpy>=2.0 " + HASH, "# numpy==2.0", "torch==2.13.0 " + HASH, "numpy==2.0 --hash=md5:0"]
)
def test_other_lines_are_refused(line: str, lock: ModuleType) -> None:
    assert len(lock.problems_of(f"# a remark\n{line}\n# torch==2.13.0\nidna==1.0 {HASH} {HASH}\n")) == 1


def test_lock_and_constraints_are_of_one_set(lock: ModuleType) -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    constraints = {lock.normalized(line.partition("==")[0]): line.partition("==")[2] for line in lines}
    locked = lock.versions_of(lock.LOCK.read_text(encoding="utf-8"))
    assert {"torch", "datasets", "tensorboard", "pillow-heif", "fastapi", "pytest"} <= locked.keys()
    assert locked == {name: constraints.get(name) for name in locked}
