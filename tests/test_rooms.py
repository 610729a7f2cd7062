"""dev/rooms.py counts rooms and arrows, and draws them; the drawing in docs/ is the one of today's imports."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def rooms() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "dev" / "rooms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A package of three rooms, with an import inside a function, and a bench."""
    package = tmp_path / "src" / "tintype"
    (package / "model").mkdir(parents=True)
    (package / "errors.py").write_text("import json\n")
    (package / "model" / "net.py").write_text("from tintype.errors import A, B\nfrom tintype.model import codec\n")
    (package / "cli.py").write_text("def late():\n    from tintype import model\n    import tintype.errors\n")
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "speed.py").write_text("import tintype\nfrom tintype import Pipeline\n")
    return tmp_path


def test_arrows_are_imports_between_rooms(rooms: ModuleType, repository: Path) -> None:
    assert rooms.arrows(repository) == {
        ("model", "errors"): 2,
        ("cli", "model"): 1,
        ("cli", "errors"): 1,
        ("bench", "__init__"): 2,
    }


def test_direct_arrows_follow_from_no_others(rooms: ModuleType) -> None:
    assert rooms.direct({("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d"), ("a", "e")}) == {
        ("a", "b"),
        ("b", "c"),
        ("c", "d"),
        ("a", "e"),
    }


def test_the_drawing_is_of_today(rooms: ModuleType) -> None:
    drawing = (ROOT / "docs" / "pictures" / "rooms.svg").read_text(encoding="utf-8")
    assert drawing == rooms.svg(set(rooms.arrows(ROOT))), "python dev/rooms.py --svg docs/pictures/rooms.svg"


def test_every_room_of_the_package_is_drawn(rooms: ModuleType) -> None:
    folders = {path.name for path in (ROOT / "src" / "tintype").iterdir() if (path / "__init__.py").is_file()}
    assert folders - set(rooms.DRAWING) == set()
