import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tintype.config import DataConfig
from tintype.data.check.run import check_data
from tintype.data.sources.find import find_pairs
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
    assert reasons(path) == {
        "a.tar/0.json": "a further member of its sample, which is not used",
        "a.tar/1.cls": "neither a picture nor a caption",
    }
    report = check_data(path)
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
    problems = reasons(path)
    assert set(problems) == {
        f"a.tar/{name}"
        for name in ("none.png", "empty.txt", "latin.txt", "json.json", "alone.txt", "photo.jxl", "two.png")
    }
    assert "a.tar/bad.png" in dict(check_data(path).by_reason())["not a picture that can be read"]
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
    assert check_data(path).num_left_out >= 1


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


def test_dots_in_names_are_part_of_a_name_unless_the_sample_has_further_members(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "a.tar",
        {
            "shot at 10.3.12.jpg": picture(format="JPEG"),
            "shot at 10.3.12.txt": b"three",
            "shot at 10.4.12.jpg": picture(format="JPEG"),
            "shot at 10.4.12.json": b'{"caption": "four"}',
            "b.v2.png": picture(),  # no caption: listed, not passed over
            "0.png": picture(),
            "0.txt": b"a red square",
            "0.mask.png": picture("white"),
        },
    )
    assert captions(path) == {
        "a.tar/shot at 10.3.12.jpg": ("three",),
        "a.tar/shot at 10.4.12.jpg": ("four",),
        "a.tar/0.png": ("a red square",),
    }
    named = reasons(path)
    assert "no caption" in named["a.tar/b.v2.png"]
    assert named["a.tar/0.mask.png"] == "a further member of its sample, which is not used"
