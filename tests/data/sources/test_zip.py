"""Zip files: read like the folder they hold, and what is refused."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from tintype.config import DataConfig
from tintype.data.check.run import check_data
from tintype.data.sources.find import find_pairs
from tintype.data.sources.pair_list import PairList
from tintype.data.sources.repeats import repeating_folders
from tintype.errors import DataError


def captions(path: Path | str, options: DataConfig | None = None) -> dict[str, tuple[str, ...]]:
    return {pair.key: pair.captions for pair in find_pairs(path, options)[0]}


def reasons(path: Path | str) -> dict[str, str]:
    return {problem.path: problem.reason for problem in find_pairs(path)[1]}


def zipped(folder: Path, path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for member in sorted(folder.rglob("*")):
            file.write(member, member.relative_to(folder))
    return path


@pytest.fixture
def folder(draw, data: Path) -> Path:
    draw("a.png", "one\ntwo")
    draw("photo.v2.jpg", "a name with dots", "blue")
    draw("deep/er/b.png", None, "green")
    draw("named.png", None, "white")
    (data / "deep" / "metadata.jsonl").write_text('{"file_name": "er\\\\b.png", "text": "by metadata"}\n')
    return data


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_gives_the_pairs_and_problems_of_its_folder(folder: Path, tmp_path: Path, method: int) -> None:
    path = zipped(folder, tmp_path / "photos.zip", method)
    pairs, from_zip = find_pairs(folder)[0], find_pairs(path)[0]
    assert captions(path) == {f"photos.zip/{key}": value for key, value in captions(folder).items()}
    assert reasons(path) == {f"photos.zip/{key}": value for key, value in reasons(folder).items()}
    assert len(from_zip) == 3
    assert [pair.source.read() for pair in from_zip] == [pair.source.read() for pair in pairs]
    assert list(PairList(from_zip)) == list(from_zip)
    assert all(pair.source.fork_safe and pair.source.archive_path == str(path) for pair in from_zip)
    assert len({pair.source.fingerprint for pair in from_zip}) == 3
    named = captions(path, DataConfig(no_caption="name"))
    assert named["photos.zip/named.png"] == ("named",)


def test_metadata_parquet_inside_a_zip(draw, data: Path, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    draw("a.png", None)
    parquet.write_table(pyarrow.table({"file_name": ["a.png"], "text": ["a table"]}), data / "metadata.parquet")
    assert captions(zipped(data, tmp_path / "a.zip")) == {"a.zip/a.png": ("a table",)}


def test_junk_links_doubles_and_archives_inside(draw, data: Path, tmp_path: Path) -> None:
    draw("a.png")
    (data / "inner.tar").write_bytes(b"x")
    (data / "inner.zip").write_bytes(b"x")
    (data / ".hidden.png").write_bytes(b"x")
    path = zipped(data, tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as file:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("__MACOSX/._a.png", b"x")
        file.writestr("../outside.png", b"x")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("a.txt", b"second")
    assert captions(path) == {"a.zip/a.png": ("a red square",)}
    assert reasons(path) == {
        "a.zip/a.txt": "a second file of the same name: the first is used",
        "a.zip/inner.tar": "an archive inside another is not read: unpack it",
        "a.zip/inner.zip": "compressed: unpack it",
        "a.zip/link.png": "not a regular file",
    }


def test_damaged_encrypted_and_oddly_compressed_files(folder: Path, tmp_path: Path) -> None:
    path = zipped(folder, tmp_path / "a.zip", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 1
    path.write_bytes(content)
    assert check_data(path).by_reason()[0][0].startswith("damaged: its checksum")
    odd = zipped(folder, tmp_path / "odd.zip", zipfile.ZIP_BZIP2)
    with pytest.raises(DataError, match="compressed by an unusual method"):
        find_pairs(odd)
    content = bytearray(zipped(folder, tmp_path / "a.zip").read_bytes())
    at = content.index(b"PK\1\2")
    while at >= 0:
        content[at + 8] |= 1  # the flag for encryption
        at = content.find(b"PK\1\2", at + 1)
    path.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        find_pairs(path)


@pytest.mark.parametrize("content", [b"", b"x" * 2000, b"PK\3\4 and no more"])
def test_a_file_that_is_no_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="not a readable zip file"):
        find_pairs(tmp_path / "a.zip")


def test_a_member_larger_than_it_says_is_refused(draw, data: Path, tmp_path: Path) -> None:
    draw("a.png")
    path = zipped(data, tmp_path / "a.zip")
    source = find_pairs(path)[0][0].source
    root, values = source.serialize()
    for size in (source.size - 1, source.size + 1):
        changed = root.deserialize([*values[:2], size, *values[3:]])
        with pytest.raises(DataError, match="checksum"):
            changed.read()


def test_zips_at_a_url_by_pattern_and_in_a_list(folder: Path, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    for number in range(2):
        zipped(folder, tmp_path / f"part-{number}.zip")
    assert len(captions(tmp_path / "part-{0..1}.zip")) == 6
    (tmp_path / "list.txt").write_text("part-0.zip\npart-1.zip weight=2\n")
    assert {pair.weight for pair in find_pairs(tmp_path / "list.txt")[0]} == {1.0, 2.0}
    files = fsspec.filesystem("memory")
    files.pipe("/zips/part.zip", (tmp_path / "part-0.zip").read_bytes())
    try:
        pairs = find_pairs("memory://zips/part.zip")[0]
        assert len(check_data("memory://zips/part.zip").pairs) == 3
        assert not any(pair.source.fork_safe for pair in pairs)
    finally:
        files.rm("/zips", recursive=True)


def test_a_zip_in_a_folder_is_left_alone(folder: Path) -> None:
    zipped(folder / "deep", folder / "copy.zip")
    assert len(captions(folder)) == 3
    assert reasons(folder)["copy.zip"] == "compressed: unpack it"


def test_absolute_names_are_below_the_archive(draw, data: Path, tmp_path: Path) -> None:
    """The folder above `/` is `/`: a search upwards for folders named `10_name` must end there."""
    draw("a.png", None)
    pack = tmp_path / "pack.zip"
    with zipfile.ZipFile(pack, "w") as file:
        file.write(data / "a.png", "//a.png")
        file.writestr("/a.txt", "a caption")
    assert captions(pack, DataConfig.of_new_runs()) == {"pack.zip/a.png": ("a caption",)}
    assert repeating_folders("/a.png") == []
    assert repeating_folders("/10_cats/a.png") == ["/10_cats"]
