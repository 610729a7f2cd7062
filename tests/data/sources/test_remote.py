import io
import tarfile
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from tintype.config import DataConfig
from tintype.data.check.run import check_data
from tintype.data.sources.files import FileError
from tintype.data.sources.find import find_pairs
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
        assert len(check_data(url).pairs) == 2
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
