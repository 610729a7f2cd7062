from pathlib import Path

import pytest

from tintype.data.sources.files import FileError, LocalFile
from tintype.data.sources.metadata import Row, read_metadata


def read(path: Path) -> list[Row]:
    return list(read_metadata(path.name, LocalFile(str(path.parent), path.name, b"")))


def test_jsonl_rows(tmp_path: Path) -> None:
    path = tmp_path / "metadata.jsonl"
    path.write_text(
        '{"file_name": "a.png", "text": "one"}\n\n'
        '{"file_name": "b.png", "caption": ["one", "two", "one", " "]}\n'
        '{"file_name": "c.png", "prompt": "three", "other": 1e999}\n'
        '{"file_name": "d.png", "text": ""}\n'
        '{"file_name": "e.png", "text": 7}\n'
        '{"file_name": "f.png"}\n'
        '{"text": "no name"}\n'
        "{broken\n"
        "[1, 2]\n" + "[" * 20_000 + "\n"
        '{"file_name": "g.png", "text": "\\ud800 wild"}'
    )
    rows = read(path)
    assert [(row.line, row.captions) for row in rows if not row.reason] == [
        (1, ("one",)),
        (3, ("one", "two")),
        (4, ("three",)),
        (12, ("wild",)),
    ]
    assert [row.line for row in rows if row.reason] == [5, 6, 7, 8, 9, 10, 11]


def test_csv_rows_with_quotes_mark_and_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_bytes(
        b'\xef\xbb\xbffile_name,caption\r\na.png,"a cat, sitting"\r\nb.png,"two\nlines"\r\nc.png\r\nd.png,\r\n'
    )
    rows = read(path)
    assert [row.captions for row in rows] == [("a cat, sitting",), ("two lines",), (), ()]
    assert [bool(row.reason) for row in rows] == [False, False, True, True]


@pytest.mark.parametrize("first", ["", "name,text", "file_name,label", "\x00\x01"])
def test_csv_without_the_columns_names_what_it_has(tmp_path: Path, first: str) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text(first + "\na.png,cat\n")
    with pytest.raises(FileError, match="file_name and text"):
        read(path)


def test_a_csv_field_beyond_all_measure_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text(f"file_name,text\na.png,{'x' * 200_000}\nb.png,cat\n")
    rows = read(path)
    assert rows[0].reason
    assert rows[-1].captions == ("cat",)
