"""Tests of files that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from tintype.model.atomic_write import replace_file


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
