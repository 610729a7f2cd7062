import gzip
import io
import json
import tarfile
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from tintype.config import DataConfig
from tintype.data.check.run import check
from tintype.data.sources.files import FileError
from tintype.data.sources.find import dataset_name, find_pairs
from tintype.data.sources.remote import Archive, expand
from tintype.errors import DataError, MissingExtraError


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


def reasons(data: str | Path) -> dict[str, str]:
    return {problem.path: problem.reason for problem in find_pairs(data)[1]}


def test_members_of_one_name_are_one_sample(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "a.tar",
        {
            "0.png": picture(),
            "0.txt": b"a red square\nred\n",
            "0.json": b'{"caption": "not this one"}',
            "deep/1.JPG": picture("blue", format="JPEG"),
            "deep/1.caption": b"ein blaues Quadrat",
            "1.json": json.dumps({"text": ["one", "two"], "width": 4}).encode(),
            "1.jpg": picture("green", format="JPEG"),
            "1.cls": b"7",
        },
    )
    assert captions(path) == {
        "a.tar/0.png": ("a red square", "red"),
        "a.tar/deep/1.JPG": ("ein blaues Quadrat",),
        "a.tar/1.jpg": ("one", "two"),
    }
    assert reasons(path) == {}
    report = check(path)
    assert len(report.pairs) == 3
    assert report.num_left_out == 0


def test_every_kind_of_trouble_is_listed(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "a.tar",
        {
            "good.png": picture(),
            "good.txt": b"x",
            "none.png": picture(),
            "empty.png": picture(),
            "empty.txt": b" \n",
            "latin.png": picture(),
            "latin.txt": "Käfer".encode("latin-1"),
            "json.png": picture(),
            "json.json": b"{",
            "alone.txt": b"x",
            "photo.jxl": b"x",
            "photo.txt": b"x",
            "two.png": picture(),
            "two.jpg": picture(),
            "two.txt": b"x",
            "bad.png": b"rubbish",
            "bad.txt": b"x",
            ".hidden.png": b"x",
            "__MACOSX/._good.png": b"x",
        },
    )
    assert set(captions(path)) == {"a.tar/good.png", "a.tar/two.png", "a.tar/bad.png"}
    found = reasons(path)
    assert set(found) == {
        f"a.tar/{name}"
        for name in ("none.png", "empty.txt", "latin.txt", "json.json", "alone.txt", "photo.jxl", "two.png")
    }
    assert "a.tar/bad.png" in dict(check(path).by_reason())["not a picture that can be read"]
    named = captions(path, DataConfig(no_caption="name"))
    assert named["a.tar/none.png"] == ("none",)
    assert named["a.tar/empty.png"] == ("empty",)


def test_doubled_members_and_links(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as file:
        for name, content in (("0.png", picture()), ("0.txt", b"first"), ("0.txt", b"second")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    assert captions(path) == {"a.tar/0.png": ("first",)}
    assert reasons(path) == {
        "a.tar/0.txt": "a second member of the same name: the first is used",
        "a.tar/1.png": "not a regular file",
    }


@pytest.mark.parametrize("cut", [3000, 5000])
def test_a_tar_that_is_cut_short_gives_what_is_whole(tmp_path: Path, cut: int) -> None:
    members = {f"{i}.{kind}": content for i in range(9) for kind, content in (("txt", b"x"), ("png", picture()))}
    path = tar(tmp_path / "a.tar", members)
    path.write_bytes(path.read_bytes()[:cut])
    pairs, problems = find_pairs(path)
    assert 0 < len(pairs) < 9
    assert any("cut short" in p.reason or "damaged" in p.reason for p in problems)
    assert check(path).num_left_out >= 1


def test_a_damaged_header_is_said_and_what_came_before_is_used(tmp_path: Path) -> None:
    members = {f"{i}.{kind}": content for i in range(9) for kind, content in (("txt", b"x"), ("png", picture()))}
    path = tar(tmp_path / "a.tar", members)
    content = bytearray(path.read_bytes())
    at = content.index(b"5.txt")
    content[at : at + 200] = b"#" * 200
    path.write_bytes(content)
    pairs, problems = find_pairs(path)
    assert len(pairs) == 5
    assert [p.path for p in problems] == ["a.tar"]
    assert f"damaged at byte {at:,}" in problems[0].reason


@pytest.mark.parametrize("content", [b"", b"x" * 2000, gzip.compress(b"x" * 4000)])
def test_what_is_no_tar_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tar: (not a tar|the file is empty|compressed)"):
        find_pairs(path)


def test_a_tar_that_changes_after_it_was_listed_is_noticed(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", {"0.png": picture(), "0.txt": b"x"})
    (pair,) = find_pairs(path)[0]
    before = pair.source.fingerprint
    tar(path, {"0.txt": b"longer than it was", "0.png": picture("blue")})
    with pytest.raises(DataError, match="changed"):
        pair.source.read()
    assert find_pairs(path)[0][0].source.fingerprint != before


def test_tars_inside_a_folder_and_by_pattern(draw, data: Path) -> None:
    draw("a.png", "beside")
    for number in range(3):
        tar(data / "shards" / f"train-{number:03}.tar", {"0.png": picture(), "0.txt": b"x"})
    assert list(captions(data)) == ["a.png", *(f"shards/train-{number:03}.tar/0.png" for number in range(3))]
    assert list(captions(data / "shards" / "train-{000..001}.tar")) == ["train-000.tar/0.png", "train-001.tar/0.png"]
    assert len(captions(data / "shards" / "*.tar")) == 3
    with pytest.raises(DataError, match=r"train-003\.tar cannot be read"):
        find_pairs(data / "shards" / "train-{002..009}.tar")


def test_tars_at_a_url(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", {"0.png": picture((9, 8, 7)), "0.txt": b"x"})
    files = fsspec.filesystem("memory")
    for number in range(2):
        files.pipe(f"/bucket/train-{number}.tar", path.read_bytes())
    for url in ("memory://bucket/train-{0..1}.tar", "memory://bucket/*.tar", "memory://bucket"):
        pairs, problems = find_pairs(url)
        assert [pair.key for pair in pairs] == ["train-0.tar/0.png", "train-1.tar/0.png"]
        assert problems == []
        assert pairs[1].source.read() == picture((9, 8, 7))
        assert len(check(url).pairs) == 2
    files.pipe("/bucket/train-1.tar", path.read_bytes()[:600])
    assert "cut short" in reasons("memory://bucket")["train-1.tar/0.png"]
    with pytest.raises(DataError, match="cannot be read"):
        find_pairs("memory://bucket/none.tar")
    with pytest.raises(DataError, match="cannot be read"):
        find_pairs("nonsense://bucket/none.tar")
    assert len(find_pairs(f"file://{path}")[0]) == 1


def test_a_server_that_sends_only_whole_files() -> None:
    class Files:
        def cat_file(self, path: str, start: int, end: int) -> bytes:
            return bytes(1000)

    with pytest.raises(FileError, match="only whole files"):
        Archive("a.tar", b"", 1000, Files()).read(100, 50)


def test_a_kind_of_url_that_needs_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(MissingExtraError, match=r"s3 URLs \(Install s3fs to access S3\): pip install 'fsspec\[s3\]'"):
        find_pairs("s3://bucket/a.tar")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{a,b}-{1..2}", ["a-1", "a-2", "b-1", "b-2"]),
        ("{2..0}", ["2", "1", "0"]),
    ],
)
def test_braces(pattern: str, names: list[str]) -> None:
    assert expand(pattern) == names


def test_too_many_by_braces() -> None:
    with pytest.raises(DataError):
        expand("{0..99999999}")


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
