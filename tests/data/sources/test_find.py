import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tintype.config import DataConfig
from tintype.data.sources.find import dataset_name, find_pairs
from tintype.errors import DataError


def picture(color: object = "red", size: tuple[int, int] = (40, 40), format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, format)
    return file.getvalue()


def tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def captions(data: str | Path, options: DataConfig | None = None) -> dict[str, tuple[str, ...]]:
    return {pair.key: pair.captions for pair in find_pairs(data, options)[0]}


def test_tars_inside_a_folder_and_by_pattern(draw, data: Path) -> None:
    draw("a.png", "beside")
    for number in range(3):
        tar(data / "shards" / f"train-{number:03}.tar", {"0.png": picture(), "0.txt": b"x"})
    assert list(captions(data)) == ["a.png", *(f"shards/train-{number:03}.tar/0.png" for number in range(3))]
    assert list(captions(data / "shards" / "train-{000..001}.tar")) == ["train-000.tar/0.png", "train-001.tar/0.png"]
    assert len(captions(data / "shards" / "*.tar")) == 3
    with pytest.raises(DataError, match=r"train-003\.tar cannot be read"):
        find_pairs(data / "shards" / "train-{002..009}.tar")


def test_a_list_mixes_sources_with_weights(draw, data: Path, tmp_path: Path) -> None:
    draw("a.png", "from the folder")
    tar(tmp_path / "more" / "b.tar", {"0.png": picture(), "0.txt": b"from the tar"})
    (tmp_path / "more" / "mixed.txt").write_text("# what we have\n\n../data weight=2.5\nb.tar\nb.tar weight=1e-1\n")
    pairs, problems = find_pairs(tmp_path / "more" / "mixed.txt")
    assert [(pair.key, pair.weight) for pair in pairs] == [
        ("data/a.png", 2.5),
        ("b.tar/b.tar/0.png", 1.0),
        ("b.tar#2/b.tar/0.png", 0.1),
    ]
    assert problems == []


def test_a_source_of_a_list_that_cannot_be_used_is_left_out_with_its_line(draw, data: Path, tmp_path: Path) -> None:
    draw("a.png")
    draw("none.png", None)
    path = tmp_path / "mixed.txt"
    path.write_text("data\nnowhere\nmixed.txt\n")
    pairs, problems = find_pairs(path)
    assert [pair.key for pair in pairs] == ["data/a.png"]
    assert [p.path for p in problems] == ["data/none.png", "mixed.txt:2", "mixed.txt:3"]
    assert "there is no folder" in problems[1].reason
    assert "in a list" in problems[2].reason


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "many"])
def test_weights_that_cannot_be(draw, data: Path, tmp_path: Path, weight: str) -> None:
    draw("a.png")
    (tmp_path / "mixed.txt").write_text(f"data weight={weight}\n")
    with pytest.raises(DataError, match=r"mixed\.txt:1: weight must be"):
        find_pairs(tmp_path / "mixed.txt")


def test_a_list_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "mixed.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match="lists nothing"):
        find_pairs(tmp_path / "mixed.txt")


@pytest.mark.parametrize(
    ("data", "name"),
    [("/a/b c/", "b c"), ("s3://bucket/train-{0..9}.tar", "train-{0..9}.tar"), ("hf:me/cats", "cats")],
)
def test_names_for_people(data: str, name: str) -> None:
    assert dataset_name(data) == name
