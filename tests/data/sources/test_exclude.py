"""Lists of pictures to leave out: names that no picture has are refused, and any name survives being written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tintype.data.sources.exclude import Exclusions, add_to_list, read_exclusions
from tintype.data.sources.find import find_pairs
from tintype.errors import DataError

KEYS = ["a.png", "a.tar/b 1.jpg", "# 3.png", '{"key": "x"}', " indented.png", "two\nlines.png", "f" * 64, "ü.png"]


def test_a_name_that_no_picture_has_is_refused_with_the_one_it_is_like(tmp_path: Path) -> None:
    for name in ("apple-01.png", "apple-02.png", "pear.png"):
        (tmp_path / name).write_bytes(b"not opened")
        (tmp_path / name).with_suffix(".txt").write_text("fruit")
    pairs = find_pairs(str(tmp_path))[0]
    Exclusions(frozenset({"pear.png"})).require_present(pairs)
    Exclusions(sha256=frozenset({"0" * 64})).require_present(pairs)  # hashes are known once files are read
    with pytest.raises(DataError, match=r"names aple-02.png and 1 more, .* did you mean apple-02.png\?"):
        Exclusions(frozenset({"pear.png", "aple-02.png", "zzz"})).require_present(pairs)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_that_is_added_is_read_back(tmp_path: Path, key: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# by hand, without a last newline\nold.png")
    assert add_to_list(path, [key, key, "old.png"]) == 1
    assert add_to_list(path, [key]) == 0
    assert read_exclusions(path).keys == {key, "old.png"}
    assert path.read_text(encoding="utf-8").startswith("# by hand")


def test_a_list_is_made_where_there_is_none(tmp_path: Path) -> None:
    assert add_to_list(tmp_path / "new.txt", ["a.png", "b.png"]) == 2
    assert read_exclusions(tmp_path / "new.txt").keys == {"a.png", "b.png"}
    with pytest.raises(DataError, match="cannot be written"):
        add_to_list(tmp_path / "no" / "folder.txt", ["a.png"])
