"""Data from strangers: absurd sizes, endless archives, links and paths that lead out. Each is a line of the report."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.data.conftest import Draw

from tintype.config import DataConfig
from tintype.data.sources import remote, tar_members
from tintype.data.sources.captions import MAX_CAPTION_BYTES, row_captions
from tintype.data.sources.find import find_pairs
from tintype.data.sources.hub import Column, Row
from tintype.data.sources.remote import expand
from tintype.errors import DataError

LONG = "word " * (MAX_CAPTION_BYTES // 5 + 1)


def png(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), color).save(buffer, "PNG")
    return buffer.getvalue()


def reasons(data: Path) -> dict[str, str]:
    return {problem.path: problem.reason for problem in find_pairs(data)[1]}


def captions(data: Path) -> dict[str, tuple[str, ...]]:
    return {pair.key: pair.captions for pair in find_pairs(data)[0]}


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that Python objects took at most while `work` ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header, its size in the base-256 form if it starts with a high bit."""
    block = bytearray(512)
    fields = ((0, name), (100, b"0000644\0"), (108, b"0000000\0"), (116, b"0000000\0"), (124, size))
    for at, value in (*fields, (136, b"00000000000\0"), (148, b" " * 8), (156, kind), (257, b"ustar\x0000")):
        block[at : at + len(value)] = value
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def tar(path: Path, *more: bytes) -> None:
    """A tar file with one captioned picture, then the given blocks."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("ok.png", png()), ("ok.txt", b"fine")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    content = buffer.getvalue().rstrip(b"\0")
    path.write_bytes(content + b"\0" * (-len(content) % 512) + b"".join(more) + b"\0" * 1024)


@pytest.mark.parametrize("size", [-512, -1024, -(2**62)])
def test_a_tar_member_of_negative_size_ends_the_listing(data: Path, size: int) -> None:
    tar(data / "a.tar", header(b"q.bin", b"\xff\xff\xff\xff" + struct.pack(">q", size)))
    assert captions(data) == {"a.tar/ok.png": ("fine",)}
    assert "damaged" in reasons(data)["a.tar"]


@pytest.mark.parametrize("kind", [b"L", b"x", b"K"])
def test_a_tar_header_of_negative_size_is_not_read(data: Path, kind: bytes) -> None:
    tar(data / "a.tar", header(b"long", b"\xff\xff\xff\xff" + struct.pack(">q", -512), kind), b"n" * 512)
    assert captions(data) == {"a.tar/ok.png": ("fine",)}
    assert "damaged" in reasons(data)["a.tar"]


@pytest.mark.parametrize("kind", [b"L", b"x", b"K"])
def test_a_tar_header_of_absurd_size_is_not_read(data: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes) -> None:
    monkeypatch.setattr(tar_members, "MAX_HEADER_BYTES", 2**16)
    size = 2**20
    tar(data / "a.tar", header(b"long", b"%011o\0" % size, kind), b"n" * size)
    assert captions(data) == {"a.tar/ok.png": ("fine",)}
    assert "a header is larger than" in reasons(data)["a.tar"]


def test_a_tar_header_of_honest_size_is_read(data: Path) -> None:
    buffer = io.BytesIO()
    name = "n" * 3000
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for suffix, content in ((".png", png()), (".txt", b"long name")):
            member = tarfile.TarInfo(name + suffix)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (data / "a.tar").write_bytes(buffer.getvalue())
    assert captions(data) == {f"a.tar/{name}.png": ("long name",)}


def test_a_caption_beyond_the_limit_is_refused_before_any_work() -> None:
    assert row_captions({"text": LONG}) == ((), "its captions are larger than 1 MB")
    assert row_captions({"text": ["a"] * (MAX_CAPTION_BYTES + 1)})[0] == ()
    assert row_captions({"text": "\N{GRINNING FACE}" * (MAX_CAPTION_BYTES // 4 + 1)})[0] == ()
    assert row_captions({"text": "a" * MAX_CAPTION_BYTES})[0] == ("a" * MAX_CAPTION_BYTES,)


def test_every_source_refuses_a_caption_beyond_the_limit(draw: Draw, data: Path) -> None:
    draw("ok.png", "fine")
    draw("row.png", caption=None)
    draw("sub/row.png", caption=None)
    draw("text.png", caption=LONG)
    (data / "metadata.jsonl").write_text(json.dumps({"file_name": "row.png", "text": LONG}))
    (data / "sub" / "metadata.csv").write_text(f"file_name,text\nrow.png,{LONG}\n")
    with tarfile.open(data / "a.tar", "w") as archive:
        for name, content in (("j.png", png()), ("j.json", json.dumps({"text": LONG}).encode())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert captions(data) == {"ok.png": ("fine",)}
    problems = reasons(data)
    assert "larger than 1 MB" in problems["metadata.jsonl:1"]
    assert "larger than 1 MB" in problems["text.txt"]
    assert "larger than 1 MB" in problems["a.tar/j.json"]
    assert any(path.startswith("sub/metadata.csv") for path in problems)


def test_objects_from_python_refuse_a_caption_beyond_the_limit() -> None:
    picture = Image.new("RGB", (40, 40), "red")
    pairs, problems = find_pairs([(picture, "fine"), (picture, LONG)])
    assert [pair.captions for pair in pairs] == [("fine",)]
    assert [problem.reason for problem in problems] == ["its captions are larger than 1 MB"]


@pytest.mark.parametrize("stored_as", ["dictionary", "text", "list"])
@pytest.mark.slow
def test_a_parquet_file_that_unfolds_to_gigabytes(data: Path, stored_as: str) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    long, num = "a" * 2_000_000, 100
    if stored_as == "dictionary":
        texts = pa.DictionaryArray.from_arrays(pa.array([0] * num, pa.int32()), pa.array([long]))
    else:
        texts = pa.array([[long, "b"] if stored_as == "list" else long] * num)
    short = pa.array([["fine"]] * 2 if stored_as == "list" else ["fine"] * 2)
    pictures = pa.array([png()] * num)
    schema = {"image": pictures, "text": texts}
    pq.write_table(pa.table(schema), data / "x.parquet", compression="zstd")
    pq.write_table(pa.table({"image": pictures[:2], "text": short}), data / "y.parquet")
    assert (data / "x.parquet").stat().st_size < 2_000_000
    result: list[dict[str, tuple[str, ...]]] = []
    assert peak_of(lambda: result.append(captions(data))) < 30e6
    assert set(result[0].values()) == {("fine",)}
    assert sum("larger than 1 MB" in reason for reason in reasons(data).values()) == num


def test_pictures_and_captions_of_a_dictionary_are_read(data: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    images = pa.array([{"bytes": png("blue"), "path": None}, {"bytes": png(), "path": None}, None])
    pq.write_table(pa.table({"image": images, "text": ["b", "a", "b"]}), data / "x.parquet")
    pairs, _ = find_pairs(data)
    assert [pair.captions for pair in pairs] == [("b",), ("a",), ("b",)]
    assert [pair.source.read() for pair in pairs[:2]] == [png("blue"), png()]


def test_a_row_of_a_data_set_reads_only_its_own_files(tmp_path: Path) -> None:
    folder, outside = tmp_path / "set", tmp_path / "private.png"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    outside.write_bytes(png("blue"))
    os.mkfifo(folder / "pipe")
    (folder / "link.png").symlink_to(outside)
    paths = [
        folder / "a.png",
        outside,
        folder / ".." / "private.png",
        folder / "link.png",
        folder / "pipe",
        Path("/dev/zero"),
    ]
    cells = [{"image": {"bytes": None, "path": str(path)}} for path in paths]
    column = Column(cells, "image", b"", (folder.resolve(),))
    assert Row(column, 0).read() == png()
    for index in range(1, len(cells)):
        with pytest.raises(DataError, match=r"leads outside the data set|not a regular file"):
            Row(column, index).read()


def test_braces_are_counted_before_they_are_expanded() -> None:
    assert expand("a{0..2}{x,y}b") == ["a0xb", "a0yb", "a1xb", "a1yb", "a2xb", "a2yb"]
    assert expand("{08..10}.tar") == ["08.tar", "09.tar", "10.tar"]
    assert expand("{2..0}") == ["2", "1", "0"]
    assert expand("plain.tar") == ["plain.tar"]
    for pattern in ("{0..9}" * 8, "{0..999999999999}", "{0..1000}{0..1000}", "{a,b}" * 21):
        with pytest.raises(DataError, match="more than 1,000,000 files"):
            expand(pattern)


def test_a_star_stands_for_a_bounded_number_of_files(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(6):
        tar(data / f"{index}.tar")
    monkeypatch.setattr("tintype.data.sources.find.MAX_EXPANDED", 5)
    with pytest.raises(DataError, match="more than 5 files"):
        find_pairs(data / "*.tar")
    monkeypatch.setattr("tintype.data.sources.find.MAX_EXPANDED", remote.MAX_EXPANDED)
    assert len(find_pairs(data / "*.tar")[0]) == 6


def test_captions_and_metadata_behind_links_out_of_the_folder_are_left_out(
    draw: Draw, data: Path, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "key").write_text("secret words")
    (private / "rows").write_text(json.dumps({"file_name": "b.png", "text": "secret row"}))
    draw("a.png", caption=None)
    draw("sub/b.png", caption=None)
    draw("c.png", "fine")
    draw("inside.png", caption=None)
    (data / "a.txt").symlink_to(private / "key")
    (data / "sub" / "metadata.jsonl").symlink_to(private / "rows")
    (data / "inside.txt").symlink_to("c.txt")
    assert captions(data) == {"c.png": ("fine",), "inside.png": ("fine",)}
    assert "a link to a file outside the data folder" in reasons(data)["a.txt"]
    assert "a link to a file outside the data folder" in reasons(data)["sub/metadata.jsonl"]


def test_pictures_behind_links_out_of_the_folder_are_used_and_counted(draw: Draw, data: Path, tmp_path: Path) -> None:
    for name in ("p", "q"):
        (tmp_path / f"{name}.png").write_bytes(png())
        (data / f"{name}.png").symlink_to(tmp_path / f"{name}.png")
        (data / f"{name}.txt").write_text(name)
    draw("r.png", "r")
    (data / "s.png").symlink_to("r.png")
    (data / "s.txt").write_text("s")
    assert set(captions(data)) == {"p.png", "q.png", "r.png", "s.png"}
    note = reasons(data)["p.png"]
    assert note == "2 pictures are links to files outside the data folder, and are used"
    assert not any(problem.left_out for problem in find_pairs(data, DataConfig())[1])
