from pathlib import Path

import pytest

from tintype.data.sources.files import FileError, LocalFile
from tintype.data.sources.metadata import Row, read_metadata
from tintype.data.sources.metadata_csv import OPEN_QUOTE


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


def rows_of(tmp_path: Path, text: str) -> list[tuple[int, tuple[str, ...], str]]:
    path = tmp_path / "metadata.csv"
    path.write_text(text, newline="")
    return [(row.line, row.captions, row.reason) for row in read(path)]


def test_commas_without_quotes_belong_to_the_caption_if_it_is_last(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "file_name,text\na.png,a cat, red hair,  big\nb.png,a dog,,\n")
    assert rows == [(2, ("a cat, red hair, big",), ""), (3, ("a dog",), "")]
    rows = rows_of(tmp_path, "text,file_name\na cat, red,a.png\na dog,b.png,\n")
    assert rows == [(2, (), "it has more fields than the first line: put captions with commas into quotes"),
                    (3, ("a dog",), "")]  # fmt: skip
    assert rows_of(tmp_path, "file_name,text,prompt\na.png,a cat, red,x\n")[0][1] == ()


def test_spaces_and_capitals_in_the_first_line(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, ' File_Name , Text\na.png, "a cat, sitting"\nb.png, a dog, running\n')
    assert rows == [(2, ("a cat, sitting",), ""), (3, ("a dog, running",), "")]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    rows = rows_of(tmp_path, delimiter.join(("file_name", "text")) + f'\na.png{delimiter}"a cat, big"\n')
    assert rows == [(2, ("a cat, big",), "")]


def test_an_open_quote_swallows_no_rows(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, 'file_name,text\na.png,"open\nb.png,two\nc.png,"three"\nd.png,"four\nlines"\n')
    assert rows == [
        (2, (), OPEN_QUOTE),
        (3, ("two",), ""),
        (4, ("three",), ""),
        (5, ("four lines",), ""),
    ]
    rows = rows_of(tmp_path, 'file_name,text\na.png,one\nb.png,"open\nc.png,two\nd.png,"open too')
    assert [(line, reason) for line, _, reason in rows if reason] == [(3, OPEN_QUOTE), (5, OPEN_QUOTE)]
    rows = rows_of(tmp_path, 'file_name,text\na.png,"a ""cat"""\nb.png,a 5" screen\nc.png,"big" dog\n')
    assert [captions for _, captions, _ in rows] == [('a "cat"',), ('a 5" screen',), ("big dog",)]


def test_a_quote_that_stays_open_over_many_lines_costs_little(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, 'file_name,text\na.png,"open\n' + "b.png,x\n" * 20_000)
    assert rows[0] == (2, (), OPEN_QUOTE)
    assert len(rows) == 20_001
