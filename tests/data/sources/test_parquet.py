import io
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from tintype.config import DataConfig
from tintype.data.check.run import check_data
from tintype.data.sources.find import find_pairs
from tintype.errors import DataError, MissingExtraError


def picture(color: object = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), color).save(file, "PNG")
    return file.getvalue()


def write(path: Path, columns: dict[str, list[object]], rows: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=rows)
    return path


def test_pictures_inside_a_table(tmp_path: Path) -> None:
    colors = [(i, 2 * i, 3 * i) for i in range(5)]
    cells = [{"bytes": picture(color), "path": f"{i}.png"} for i, color in enumerate(colors)]
    path = write(tmp_path / "train.parquet", {"image": cells, "text": [["a", "b"], ["c"], ["d"], ["e"], ["f"]]})
    pairs, problems = find_pairs(path)
    assert problems == []
    assert [pair.key for pair in pairs] == [f"train.parquet/{i:08d}" for i in range(5)]
    assert pairs[0].captions == ("a", "b")
    assert [pair.source.read() for pair in pairs] == [picture(color) for color in colors]
    assert pairs[4].source.read() == pairs[4].source.read()
    assert len({pair.source.fingerprint for pair in pairs}) == 5
    report = check_data(tmp_path)
    assert len(report.pairs) == 5


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    columns = {
        "jpg": [picture(), None, picture(), b"rubbish"],
        "caption": ["good", "no picture", " ", "bad"],
    }
    path = write(tmp_path / "a.parquet", columns)
    report = check_data(path)
    assert [pair.captions for pair in report.pairs] == [("good",)]
    assert {p.path: p.reason for p in report.problems} == {
        "a.parquet/00000001": "this row holds no picture",
        "a.parquet/00000002": "its caption is empty",
        "a.parquet/00000003": "not a picture that can be read",
    }
    assert len(find_pairs(path, DataConfig(no_caption="empty"))[0]) == 4


def test_metadata_parquet(draw, data: Path) -> None:
    draw("images/a.png", None)
    draw("images/b.png", "beside it")
    write(data / "metadata.parquet", {"file_name": ["images/a.png", "gone.png", None], "text": ["one", "x", "y"]})
    pairs, problems = find_pairs(data)
    assert {pair.key: pair.captions for pair in pairs} == {"images/a.png": ("one",), "images/b.png": ("beside it",)}
    assert [p.path for p in problems] == ["metadata.parquet:2: gone.png", "metadata.parquet:3"]


def test_tables_of_something_else(draw, data: Path) -> None:
    draw("a.png")
    write(data / "numbers.parquet", {"x": [1, 2]})
    (data / "broken.parquet").write_bytes(b"PAR1 rubbish")
    pairs, problems = find_pairs(data)
    assert len(pairs) == 1
    assert {p.path: p.left_out for p in problems} == {"broken.parquet": True, "numbers.parquet": False}
    with pytest.raises(DataError, match="not a readable Parquet file"):
        find_pairs(data / "broken.parquet")
    write(data / "metadata.parquet", {"name": ["a.png"]})
    assert "it needs the columns" in next(p.reason for p in find_pairs(data)[1] if p.path == "metadata.parquet")


def test_a_missing_package_is_named(draw, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("a.png")
    path = write(data / "b.parquet", {"image": [picture()], "text": ["x"]})
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tintype\[parquet\]'"):
        find_pairs(path)
    assert "tintype[parquet]" in find_pairs(data)[1][0].reason  # beside other pictures it is one more problem
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tintype\[hub\]'"):
        find_pairs("hf:somebody/cats")


def test_several_tables_by_a_pattern(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"train-{number:05}-of-00003.parquet", {"image": [{"bytes": picture("red")}], "text": ["x"]})
    keys = [f"train-{number:05}-of-00003.parquet/00000000" for number in range(3)]
    assert [pair.key for pair in find_pairs(tmp_path / "train-*.parquet")[0]] == keys
