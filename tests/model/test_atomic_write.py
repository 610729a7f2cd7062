"""Files appear whole or not at all: on a full disk, when interrupted, and when several programs write the same name."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tintype.errors import CheckpointError
from tintype.model.atomic_write import replace_file, write_bytes, write_free

CONTENT = bytes(range(256)) * 64


def names(folder: Path) -> Any:
    return (folder / f"{number}.png" for number in count())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    write_bytes(tmp_path / "a.png", CONTENT)
    assert contents(tmp_path) == {"a.png": CONTENT}


@pytest.mark.parametrize("links", [True, False])
def test_the_first_free_name_is_taken(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(os, "link", _refuse)
    (tmp_path / "0.png").write_bytes(b"there")
    (tmp_path / "1.png").mkdir()
    assert write_free(names(tmp_path), CONTENT) == tmp_path / "2.png"
    (tmp_path / "1.png").rmdir()
    assert contents(tmp_path) == {"0.png": b"there", "2.png": CONTENT}


def _refuse(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("moment", ["write", "link", "replace"])
@pytest.mark.parametrize("free", [True, False])
def test_nothing_is_left_of_a_write_that_fails(
    error: Any, moment: str, free: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "0.png"
    if not free:
        path.write_bytes(b"old")

    def half(self: Path, content: bytes) -> None:
        self.touch()
        raise error

    def fail(*_: object) -> None:
        raise error

    if moment == "write":
        monkeypatch.setattr(Path, "write_bytes", half)
        monkeypatch.setattr("tintype.model.atomic_write.write_synced", half)
    else:
        monkeypatch.setattr(os, "link", fail if moment == "link" else _refuse)
        monkeypatch.setattr(os, "replace", fail)
    write = partial(write_free, names(tmp_path)) if free else partial(write_bytes, path)
    with pytest.raises((CheckpointError, KeyboardInterrupt)) as caught:
        write(content=CONTENT)
    monkeypatch.undo()
    assert contents(tmp_path) == ({} if free else {"0.png": b"old"})
    if caught.type is CheckpointError:
        assert f"cannot write {path}: No space left on device; " in str(caught.value)


def test_a_name_may_be_as_long_as_the_system_takes(tmp_path: Path) -> None:
    path = tmp_path / ("東" * 80 + ".png")
    try:
        path.touch()
    except OSError:
        pytest.skip("this system has no names of 244 bytes")
    write_bytes(path, CONTENT)
    assert contents(tmp_path) == {path.name: CONTENT}


def test_programs_that_write_one_file_do_not_share_a_temporary_one(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tintype.model.atomic_write import write_bytes\n"
        "for _ in range(100): write_bytes(Path(sys.argv[1]), sys.argv[2].encode() * 100_000)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "same.png")]
    writers = [subprocess.Popen([*command, letter], stderr=subprocess.PIPE) for letter in "abc"]
    assert [writer.communicate(timeout=60)[1] for writer in writers] == [b""] * 3
    (content,) = contents(tmp_path).values()
    assert content in {letter * 100_000 for letter in (b"a", b"b", b"c")}


def test_a_refused_write_leaves_the_file_that_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    replace_file(path, b"first")
    temporary: list[str] = []

    def refuse(source: Path, target: Path) -> None:
        temporary.append(Path(source).name)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert str(os.getpid()) in temporary[0]
