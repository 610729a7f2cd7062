"""Data sets by name, with the package `datasets` stood in for: which split is asked for, and what goes wrong."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from tintype.data.check.run import check_data
from tintype.data.sources.find import find_pairs
from tintype.errors import DataError, MissingExtraError


class Table:
    """As much of a datasets.Dataset as is asked for."""

    cache_files: tuple[dict[str, str], ...] = ()

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._columns = columns

    @property
    def column_names(self) -> list[str]:
        return list(self._columns)

    def cast_column(self, name: str, kind: object) -> Table:
        return self

    def select_columns(self, names: list[str]) -> Table:
        return Table({name: self._columns[name] for name in names})

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= len(next(iter(self._columns.values()))):
            raise IndexError
        return {name: values[index] for name, values in self._columns.items()}


def picture(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was asked for, of a hub that has one data set."""
    asked: list[tuple[str, str]] = []

    def load_dataset(name: str, split: str) -> Table:
        asked.append((name, split))
        if name == "someone/columns":
            return Table({"label": [1], "text": ["x"]})
        if name != "someone/cats":
            raise FileNotFoundError(f"{name} is not on the hub")
        cells = [{"bytes": picture(9), "path": None}, {"bytes": None, "path": "/gone.png"}]
        return Table({"image": cells, "caption": [["a cat", "one cat"], "no cat"]})

    stub = SimpleNamespace(load_dataset=load_dataset, Image=lambda decode: decode)
    monkeypatch.setitem(sys.modules, "datasets", stub)  # type: ignore[arg-type]
    return asked


def test_a_data_set_by_name_and_split(asked: list[tuple[str, str]]) -> None:
    report = check_data("hf:someone/cats")
    assert [(pair.key, pair.captions) for pair in report.pairs] == [("00000000", ("a cat", "one cat"))]
    assert [p.path for p in report.problems] == ["00000001"]
    find_pairs("hf:someone/cats:validation[:10%]")
    assert asked == [("someone/cats", "train"), ("someone/cats", "validation[:10%]")]


def test_what_is_not_there_or_has_other_columns_is_said(asked: list[tuple[str, str]]) -> None:
    with pytest.raises(DataError, match="nobody/nothing cannot be loaded: nobody/nothing is not on the hub"):
        find_pairs("hf:nobody/nothing")
    with pytest.raises(DataError, match="needs the columns image and text; it has: label, text"):
        find_pairs("hf:someone/columns")


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tintype\[hub\]'"):
        find_pairs("hf:someone/cats")
