"""Files without a known suffix: pictures are recognized by their first bytes, and all others are listed."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from tintype.config import DataConfig
from tintype.data.check.report import show, to_json
from tintype.data.check.run import check_data
from tintype.data.images.decode import FORMATS
from tintype.data.sources.file_types import HEAD_BYTES, is_picture
from tintype.data.sources.find import find_pairs
from tintype.data.sources.pairs import NEITHER
from tintype.data.sources.walk import RUN
from tintype.errors import DataError

PICTURES = ("a.jpe", "b.jfif", "c.jpg_large", "d.jpg-large", "e.jpeg_large", "f", "IMG.2023", "g.mp4")
OTHERS = ("film.mp4", "tool.exe", "notes.md", "empty", "scene.json")


def encoded(format: str = "JPEG", color: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), color).save(file, format)
    return file.getvalue()


@pytest.fixture
def members() -> dict[str, bytes]:
    """Pictures without a usual suffix with their captions, files of other kinds, and junk."""
    contents = {name: encoded() for name in PICTURES}
    contents |= {f"{os.path.splitext(name)[0]}.txt": f"a picture {name}".encode() for name in PICTURES}
    contents |= {name: b"" if name == "empty" else f"BM {name} is no picture".encode() for name in OTHERS}
    return contents | dict.fromkeys((".DS_Store", "Thumbs.db", ".hidden", "__MACOSX/._a.jpe"), b"junk")


def folder_of(members: dict[str, bytes], path: Path) -> Path:
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def zip_of(members: dict[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for number, (name, content) in enumerate(members.items()):
            file.writestr(name, content, zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED)
    return path


def tar_of(members: dict[str, bytes], path: Path) -> Path:
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(("store", "prefix"), [(folder_of, ""), (zip_of, "x.zip/"), (tar_of, "x.tar/")])
def test_pictures_are_recognized_and_all_other_files_listed(
    members: dict[str, bytes], tmp_path: Path, store, prefix: str
) -> None:
    pairs, problems = find_pairs(store(members, tmp_path / (prefix.rstrip("/") or "data")))
    assert {pair.key: pair.captions for pair in pairs} == {prefix + name: (f"a picture {name}",) for name in PICTURES}
    assert all(len(pair.source.read()) > HEAD_BYTES for pair in pairs)
    assert {problem.reason for problem in problems} == {"neither a picture nor a caption"}
    assert not any(problem.left_out for problem in problems)
    assert sum(problem.number for problem in problems) == len(OTHERS)
    assert len(problems) == 3  # the first few stand for all


def test_check_counts_them_and_they_are_no_error(members: dict[str, bytes], tmp_path: Path) -> None:
    report = check_data(folder_of(members, tmp_path / "data"))
    assert report.num_left_out == 0
    line = "  5 x neither a picture nor a caption (empty, film.mp4, notes.md, ...)"
    assert line in report.lines()
    file = io.StringIO()
    show(report, Console(file=file, width=120))
    assert "remarks:" in file.getvalue()
    assert "5  neither a picture nor a caption  empty, film.mp4, notes.md, ..." in file.getvalue()
    assert sum(problem["files"] for problem in json.loads(to_json(report))["problems"]) == 5


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_that_is_decoded_is_recognized(format: str) -> None:
    if format != "HEIF":
        assert is_picture(encoded(format)[:HEAD_BYTES])


@pytest.mark.parametrize(
    "head", [b"", b"BM", b"BMW is a car maker", b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x20ftypisom\0\0\2\0", b"%PDF-1.7"]
)
def test_other_files_are_not_taken_for_pictures(head: bytes) -> None:
    assert not is_picture(head[:HEAD_BYTES])


def test_raw_files_of_cameras_are_left_out_although_they_begin_like_tiff(draw, data: Path) -> None:
    draw("a.png")
    (data / "b.pef").write_bytes(encoded("TIFF"))
    (data / "b.txt").write_text("a cat")
    reasons = {problem.path: problem.reason for problem in find_pairs(data)[1]}
    assert reasons["b.pef"] == ".pef files cannot be read: convert to PNG or JPEG"


def test_a_picture_in_place_of_the_data_is_refused_whatever_its_suffix(members: dict[str, bytes], data: Path) -> None:
    for path in (folder_of(members, data) / name for name in PICTURES):
        with pytest.raises(DataError, match="give the folder that holds the pictures"):
            find_pairs(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_pipes_and_broken_links_without_a_suffix_are_listed_and_not_opened(draw, data: Path) -> None:
    draw("a.png")
    os.mkfifo(data / "pipe")
    (data / "link").symlink_to(data / "nothing")
    assert stat.S_ISFIFO((data / "pipe").stat().st_mode)
    reasons = {problem.path: problem.reason for problem in find_pairs(data)[1]}
    assert reasons == {"pipe": "not a regular file", "link": "a broken link"}


@pytest.mark.parametrize("store", [zip_of, tar_of])
def test_runs_and_models_in_an_archive_are_no_data(store, tmp_path: Path) -> None:
    members = {
        "cat.png": encoded("PNG"),
        "config.json": b"{}",  # alone, it tells no run
        "nets/model/config.json": b"{}",
        "nets/model/model.safetensors": b"weights",
        "nets/model/samples/000010.png": encoded("PNG"),
        "nets/model/samples/000010.txt": b"a sample",
        "out/checkpoints/step-00000100/model.safetensors": b"weights",
        "out/config.json": b"{}",
        "out/broken.png": b"",
        "out/broken.caption": b"",
        "outlook.png": encoded("PNG", "blue"),
    }
    pairs, problems = find_pairs(store(members, tmp_path / f"x.{store.__name__[:3]}"), DataConfig(no_caption="name"))
    name = f"x.{store.__name__[:3]}"
    assert [pair.key for pair in pairs] == [f"{name}/cat.png", f"{name}/outlook.png"]
    assert {problem.path: problem.reason for problem in problems} == {
        f"{name}/config.json": NEITHER,
        f"{name}/nets/model": RUN,
        f"{name}/out": RUN,
    }


@pytest.mark.parametrize("store", [zip_of, tar_of])
def test_an_archive_that_is_a_run_itself_is_no_data(store, tmp_path: Path) -> None:
    members = {"config.json": b"{}", "start.json": b"{}", "a.png": encoded("PNG"), "a.txt": b"a"}
    with pytest.raises(DataError, match=f"x.{store.__name__[:3]}: {RUN}"):
        find_pairs(store(members, tmp_path / f"x.{store.__name__[:3]}"))
