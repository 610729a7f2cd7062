"""What people's folders really hold: forty kinds of trouble, each built here, and what becomes of it."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import struct
import unicodedata
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, PngImagePlugin

from tintype.config import DataConfig, TextConfig
from tintype.data.cache.open_or_build import build_cache
from tintype.data.check.report import Report
from tintype.data.check.run import check_data
from tintype.data.images.decode import examine, preprocess_for
from tintype.data.order import Order, caption_at
from tintype.data.sources import files
from tintype.data.sources.files import LocalFile
from tintype.data.sources.find import find_pairs
from tintype.data.thread_pool import finished
from tintype.errors import DataError


class Words:
    """A text encoder: each word becomes its length."""

    identity = "words"

    def text_embeddings(self, captions):
        return [torch.tensor([[float(len(word))] for word in caption.split()]).half() for caption in captions]


@pytest.fixture
def good(draw) -> None:
    """A picture that is in order, beside the one that is not."""
    draw("good.png", "a good one", color="green")


def put(data: Path, name: str, content: bytes, caption: str | bytes | None = "a caption") -> Path:
    path = data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if caption is not None:
        path.with_suffix(".txt").write_bytes(caption if isinstance(caption, bytes) else caption.encode())
    return path


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def photo(width: int = 48, height: int = 48) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 240, width), np.linspace(0, 200, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=-1).astype(np.uint8))


def keys(report: Report) -> set[str]:
    return {pair.key for pair in report.pairs}


def reasons(report: Report) -> dict[str, str]:
    return {problem.path: problem.reason for problem in report.problems if problem.left_out}


def left_out(data: Path, name: str, words: str, options: DataConfig | None = None) -> None:
    """`name`, and nothing else, is left out, for a reason that has `words` in it."""
    report = check_data(data, options=options)
    assert keys(report) == {"good.png"}
    assert list(reasons(report)) == [name]
    assert words in reasons(report)[name]


def pixel(path: Path, options: DataConfig | None = None, x: float = 0.5, y: float = 0.5) -> tuple[int, ...]:
    """What a picture has at a place, given as shares of its sides, once it is ready for training."""
    seen = examine(LocalFile(str(path.parent), path.name, b""), preprocess_for(32, options))
    assert seen.pixels is not None, seen.reason
    return tuple(int(value) for value in seen.pixels[:, int(32 * y), int(32 * x)])


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = b"".join(chunk(name, content) for name, content in more)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("keep", [0.5, -2, -20])
def test_01_a_truncated_jpeg(good, data: Path, keep: float) -> None:
    content = encoded(photo(300, 300), "JPEG", quality=95)
    put(data, "cut.jpg", content[: int(len(content) * keep) if keep > 0 else int(keep)])
    left_out(data, "cut.jpg", "cut short")


def test_02_a_png_without_its_end(good, data: Path) -> None:
    put(data, "a.png", encoded(photo())[:-12])
    report = check_data(data)
    assert keys(report) == {"a.png", "good.png"}
    assert "1 picture: the end of the file is missing, but the picture is whole" in report.notes


def test_03_a_flipped_bit_in_a_png(good, data: Path) -> None:
    content = bytearray(encoded(photo()))
    content[content.index(b"IDAT") + 30] ^= 4
    put(data, "a.png", bytes(content))
    left_out(data, "a.png", "damaged")


def test_04_a_flipped_bit_in_a_jpeg_shows_where_the_metadata_has_a_sha256(good, data: Path) -> None:
    content = bytearray(encoded(photo(), "JPEG"))
    sha256 = hashlib.sha256(content).hexdigest()
    put(data, "a.jpg", bytes(content), None)
    (data / "metadata.jsonl").write_text(f'{{"file_name": "a.jpg", "text": "x", "sha256": "{sha256.upper()}"}}\n')
    assert keys(check_data(data)) == {"a.jpg", "good.png"}
    content[-40] ^= 1
    put(data, "a.jpg", bytes(content), None)
    left_out(data, "a.jpg", "sha256")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404 not found</html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    ],
)
def test_05_an_empty_file_a_web_page_a_pointer(good, data: Path, content: bytes, words: str) -> None:
    put(data, "a.jpg", content)
    left_out(data, "a.jpg", words)


@pytest.mark.parametrize(
    ("content", "words"), [(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"), (b"just text", "not a picture")]
)
def test_06_a_drawing_or_text_named_like_a_picture(good, data: Path, content: bytes, words: str) -> None:
    put(data, "a.png", content)
    left_out(data, "a.png", words)


def test_07_a_png_named_jpg(good, data: Path) -> None:
    path = put(data, "a.jpg", encoded(Image.new("RGB", (40, 40), (9, 8, 7))))
    assert keys(check_data(data)) == {"a.jpg", "good.png"}
    assert pixel(path) == (9, 8, 7)


def test_08_postscript_is_never_run(good, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gs = tmp_path / "bin" / "gs"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gs.parent}:{os.environ['PATH']}")
    put(data, "a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nshowpage\n")
    left_out(data, "a.png", "PostScript")
    assert not (tmp_path / "ran").exists()


def test_09_cmyk(good, data: Path) -> None:
    path = put(data, "a.jpg", encoded(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG", quality=95))
    report = check_data(data)
    assert keys(report) == {"a.jpg", "good.png"}
    assert "1 picture: CMYK, converted to RGB" in report.notes
    red, green, blue = pixel(path)
    assert red > 200 > 80 > max(green, blue)


def test_10_a_wide_gamut_profile(data: Path) -> None:
    # With red and blue swapped in it, nobody can doubt whether the profile was used.
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    at = profile.index("sRGB".encode("utf-16-be"))
    profile[at : at + 8] = "wide".encode("utf-16-be")
    path = put(data, "a.png", encoded(Image.new("RGB", (40, 40), (255, 0, 0)), icc_profile=bytes(profile)))
    red, _, blue = pixel(path)
    assert blue > 240 > 15 > red


def test_11_sixteen_bit_gray(data: Path) -> None:
    path = put(data, "a.png", encoded(Image.fromarray(np.full((40, 40), 100 * 257, dtype=np.uint16))))
    assert pixel(path) == (100, 100, 100)


def test_12_sixteen_bit_color(data: Path) -> None:
    row = b"\0" + struct.pack(">3H", 10 * 257, 100 * 257, 200 * 257) * 40
    path = put(data, "a.png", png(40, 40, 16, 2, row * 40))
    assert pixel(path) == (10, 100, 200)


def test_13_float_pixels(good, data: Path) -> None:
    path = put(data, "a.tif", encoded(Image.fromarray(np.full((40, 40), 0.5, dtype=np.float32)), "TIFF"))
    assert keys(check_data(data)) == {"a.tif", "good.png"}
    assert set(pixel(path)) <= {127, 128}
    put(data, "a.tif", encoded(Image.fromarray(np.full((40, 40), 7.5, dtype=np.float32)), "TIFF"))
    left_out(data, "a.tif", "scale them to 0..1")


@pytest.mark.parametrize(("mode", "color", "gray"), [("1", 1, 255), ("L", 77, 77), ("LA", (77, 255), 77)])
def test_14_without_color(data: Path, mode: str, color: object, gray: int) -> None:
    path = put(data, "a.png", encoded(Image.new(mode, (40, 40), color)))
    assert pixel(path) == (gray, gray, gray)
    assert "1 picture: without color" in check_data(data).notes


def test_15_what_is_hidden_under_transparency_stays_hidden(data: Path) -> None:
    path = put(data, "a.png", encoded(Image.new("RGBA", (40, 40), (255, 0, 0, 0))))
    assert pixel(path) == (255, 255, 255)
    assert pixel(path, DataConfig(alpha_color="#102030")) == (16, 32, 48)
    assert "1 picture: transparent, laid over white" in check_data(data).notes


def test_16_a_palette_with_transparency(data: Path) -> None:
    image = Image.new("P", (40, 40), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    path = put(data, "a.png", encoded(image, transparency=bytes([255, 0])))
    assert pixel(path) == (255, 255, 255)
    image.paste(0, (0, 0, 40, 40))
    path = put(data, "b.png", encoded(image, transparency=bytes([255, 0])))
    assert pixel(path) == (0, 0, 255)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_17_animations_and_pages(good, data: Path, format: str) -> None:
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "blue")]
    path = put(data, "a.gif", encoded(frames[0], format, save_all=True, append_images=frames[1:]))
    assert pixel(path)[0] > 240
    report = check_data(data)
    assert keys(report) == {"a.gif", "good.png"}
    assert "1 picture: an animation or several pages, of which the first picture is used" in report.notes
    left_out(data, "a.gif", "animation", DataConfig(animations="skip"))


@pytest.mark.parametrize(("orientation", "turned"), [(6, True), (8, True), (3, True), (99, False), (1, False)])
def test_18_exif_turns(data: Path, orientation: int, turned: bool) -> None:
    image = Image.new("RGB", (60, 40), "white")
    exif = Image.Exif()
    exif[0x0112] = orientation
    put(data, "a.jpg", encoded(image, "JPEG", exif=exif))
    report = check_data(data)
    assert keys(report) == {"a.jpg"}
    assert ("1 picture: turned upright by its EXIF orientation" in report.notes) == turned
    shape = dict(report.histograms[1].rows)
    assert shape == {"tall" if orientation in (6, 8) else "wide": 1}


def test_19_a_picture_of_a_hundred_megapixels(good, data: Path) -> None:
    put(data, "a.png", png(10_000, 10_000, 8, 2, b""))
    left_out(data, "a.png", "64 megapixels")


def test_20_a_decompression_bomb(good, data: Path) -> None:
    put(data, "a.png", png(20_000, 20_000, 8, 2, b""))
    put(data, "b.png", png(2**31 - 1, 2**31 - 1, 8, 2, b""))
    report = check_data(data)
    assert keys(report) == {"good.png"}
    assert set(reasons(report).values()) == {"more than 64 megapixels"}


def test_21_huge_compressed_text(good, data: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * 20_000_000, zip=True)
    put(data, "a.png", encoded(photo(), pnginfo=info))
    assert keys(check_data(data)) == {"a.png", "good.png"}


def test_22_tiny_pictures(good, data: Path) -> None:
    put(data, "a.png", encoded(Image.new("RGB", (1, 1))))
    left_out(data, "a.png", "smaller than half the training size")
    put(data, "a.png", encoded(photo(39, 60)))
    left_out(data, "a.png", "smaller than 40 pixels", DataConfig(min_size=40))
    put(data, "a.png", encoded(photo(8, 8)))
    assert keys(check_data(data, options=DataConfig(min_size=4))) == {"a.png", "good.png"}


def test_23_extreme_proportions(good, data: Path) -> None:
    put(data, "a.png", encoded(Image.new("RGB", (1, 5000))))
    assert "a.png" in reasons(check_data(data))
    put(data, "a.png", encoded(Image.new("RGB", (200, 1000))))
    left_out(data, "a.png", "above 4:1")
    assert keys(check_data(data, options=DataConfig(max_aspect=5))) == {"a.png", "good.png"}


def test_24_links_in_a_circle(good, data: Path) -> None:
    (data / "loop.png").symlink_to("loop.png")
    (data / "deep").mkdir()
    (data / "deep" / "up").symlink_to(data)
    left_out(data, "loop.png", "leads to itself")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_25_pipes_devices_and_folders_named_like_pictures(good, data: Path) -> None:
    os.mkfifo(data / "pipe.png")
    (data / "folder.png").mkdir()
    (data / "null.png").symlink_to("/dev/zero")
    report = check_data(data)
    assert keys(report) == {"good.png"}
    assert reasons(report) == {"pipe.png": "not a regular file", "null.png": "not a regular file"}


def test_26_unreadable_vanished_and_flickering_files(
    good, draw, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = draw("gone.png")
    pairs = find_pairs(data)[0]
    gone.unlink()
    it = finished(build_cache(pairs, preprocess_for(16), tmp_path / "cache", Words()))
    assert [(p.path, p.reason) for p in it.problems] == [("gone.png", "cannot be read: it does not exist")]
    tries = []
    read = files._read

    def flickering(path: Path, max_bytes: int, state: bytes, size: int) -> bytes:
        tries.append(path)
        if len(tries) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return read(path, max_bytes, state, size)

    monkeypatch.setattr(files, "_read", flickering)
    (data / "gone.txt").unlink()
    assert keys(check_data(data)) == {"good.png"}
    closed = draw("closed.png")
    closed.chmod(0)
    if not os.access(closed, os.R_OK):
        left_out(data, "closed.png", "permission denied")


def test_27_captions_in_other_encodings(good, data: Path) -> None:
    put(data, "a.png", encoded(photo()), "ein Käfer".encode("latin-1"))
    left_out(data, "a.txt", "--caption-encoding")
    report = check_data(data, options=DataConfig(caption_encoding="latin-1"))
    assert {pair.key: pair.captions for pair in report.pairs}["a.png"] == ("ein Käfer",)
    put(data, "a.png", encoded(photo()), "жук".encode("cp1251"))
    report = check_data(data, options=DataConfig(caption_encoding="cp1251"))
    assert {pair.key: pair.captions for pair in report.pairs}["a.png"] == ("жук",)
    put(data, "a.png", encoded(photo()), "ein Käfer".encode("utf-16"))
    assert keys(check_data(data)) == {"a.png", "good.png"}


def test_28_marks_and_control_characters_in_captions(data: Path) -> None:
    content = b"\xef\xbb\xbf" + "a\x00 re\u0301d\r\n\x1b square\t!\n".encode()
    put(data, "a.png", encoded(photo()), content)
    put(data, "b.png", encoded(photo()), None)
    (data / "metadata.jsonl").write_text('{"file_name": "b.png", "text": "a \\ud800 hat\\u2028!"}')
    captions = {pair.key: pair.captions for pair in check_data(data).pairs}
    assert captions == {"a.png": ("a réd", "square !"), "b.png": ("a hat !",)}


def test_29_empty_and_missing_captions(good, data: Path) -> None:
    put(data, "empty.png", encoded(photo()), " \n\t")
    put(data, "red_car-2.png", encoded(photo()), None)
    report = check_data(data)
    assert keys(report) == {"good.png"}
    assert set(reasons(report)) == {"empty.txt", "red_car-2.png"}
    named = check_data(data, options=DataConfig(no_caption="name"))
    assert {p.key: p.captions[0] for p in named.pairs} == {
        "empty.png": "empty",
        "good.png": "a good one",
        "red_car-2.png": "red car 2",
    }
    bare = check_data(data, options=DataConfig(no_caption="empty"))
    assert len(bare.pairs) == 3
    assert "2 pictures with an empty caption" in bare.notes


def test_30_a_very_long_caption_is_cut_and_counted(good, data: Path) -> None:
    put(data, "a.png", encoded(photo()), "word " * 10_000)
    report = check_data(data, text=TextConfig(encoder="learned"))
    assert keys(report) == {"a.png", "good.png"}
    assert any(note.startswith("1 caption longer than the 64 tokens") for note in report.notes)
    assert dict(report.histograms[-1].rows)["over 64: cut"] == 1


def test_31_each_line_of_a_text_file_is_a_caption(data: Path) -> None:
    put(data, "a.png", encoded(photo()), "a hill\n\na green hill\nthe hill\n")
    assert check_data(data).pairs[0].captions == ("a hill", "a green hill", "the hill")
    drawn = [int(number) % 3 for number in caption_at(0, torch.arange(30))]
    assert set(drawn) == {0, 1, 2}
    assert drawn[7] == int(caption_at(0, torch.tensor([7]))) % 3


def test_32_names_that_collide(data: Path) -> None:
    put(data, "a.jpg", encoded(photo(), "JPEG"), "both")
    put(data, "a.png", encoded(photo()), None)
    composed, apart = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    put(data, composed, encoded(photo()), "one")
    put(data, apart, encoded(photo()), None)
    put(data, "B.JPG", encoded(photo(), "JPEG"), "upper")
    put(data, "b.jpg", encoded(photo(), "JPEG"), "lower")
    report = check_data(data)
    assert len(report.pairs) == sum(not name.endswith(".txt") for name in os.listdir(data))
    problem_reasons = {problem.reason for problem in report.problems}
    assert "several pictures share this caption file" in problem_reasons
    if len({"B.JPG", "b.jpg"} & set(os.listdir(data))) == 2:
        assert "its name differs from B.JPG only in case or accents" in problem_reasons
        assert {pair.key: pair.captions for pair in report.pairs}["B.JPG"] == ("upper",)
    if len({composed, apart} & set(os.listdir(data))) == 2:
        assert f"its name differs from {apart} only in case or accents" in problem_reasons
    assert not any(problem.left_out for problem in report.problems)


def test_33_rows_that_are_wrong(good, data: Path) -> None:
    put(data, "a.png", encoded(photo()), None)
    put(data, "no-row.png", encoded(photo()), None)
    (data / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "text": "x"}\n{"file_name": "gone.png", "text": "x"}\n'
        '{"file_name": "a.png", "text": "again"}\n{"file_name": "a.png", \n'
        '{"file_name": "/etc/passwd", "text": "x"}\n{"file_name": "../data/a.png", "text": "x"}\n'
    )
    report = check_data(data)
    assert keys(report) == {"a.png", "good.png"}
    wrong = ("2: gone.png", "4", "5: /etc/passwd")
    assert set(reasons(report)) == {"no-row.png", *(f"metadata.jsonl:{row}" for row in wrong)}
    assert {pair.key: pair.captions for pair in report.pairs}["a.png"] == ("x", "again")


def test_34_text_file_and_metadata_row(data: Path) -> None:
    put(data, "a.png", encoded(photo()), "from the text file")
    (data / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "from the row"}')
    report = check_data(data)
    assert report.pairs[0].captions == ("from the row",)
    assert [(p.path, p.left_out) for p in report.problems] == [("a.txt", False)]


def test_35_exact_copies_are_reported_kept_together_and_left_out_on_request(data: Path, tmp_path: Path) -> None:
    for number in range(40):
        picture = Image.new("RGB", (40, 40), (number % 20 * 9, 0, 0))
        put(data, f"{number:02}.png", encoded(picture), "x")
    report = check_data(data)
    assert len(report.duplicates) == 20
    assert any(note.startswith("20 exact copies of other pictures") for note in report.notes)
    it = finished(build_cache(find_pairs(data)[0], preprocess_for(16), tmp_path / "cache", Words()))
    training, held = ({it.sha256[index] for index in part.tolist()} for part in it.split(0.3))
    assert training
    assert held
    assert not training & held
    fewer = finished(
        build_cache(find_pairs(data)[0], preprocess_for(16, DataConfig(dedupe=True)), tmp_path / "cache", Words())
    )
    assert fewer.num_samples == 20


def test_36_junk_is_passed_over_in_silence(good, data: Path) -> None:
    for name in ("Thumbs.db", ".DS_Store", "._x.jpg", ".ipynb_checkpoints/a.png", "__MACOSX/._a.png"):
        put(data, name, b"junk", None)
    report = check_data(data)
    assert keys(report) == {"good.png"}
    assert report.problems == ()


def test_37_a_training_copy_that_is_damaged_or_stale_is_made_again(good, data: Path, tmp_path: Path) -> None:
    def packed(encoder: Words) -> tuple[list[float], int]:
        it = finished(build_cache(find_pairs(data)[0], preprocess_for(16), tmp_path / "cache", encoder))
        return it.text_embeddings(torch.tensor([0]), torch.tensor([0]))[0][:, 0].tolist(), int(
            it.pictures(torch.tensor([0])).max()
        )

    assert packed(Words()) == ([1, 4, 3], 128)
    (folder,) = (tmp_path / "cache").glob("pack-*")
    np.save(folder / "states.npy", np.zeros((3, 2), dtype=np.float16))  # of another shape
    assert packed(Words()) == ([1, 4, 3], 128)
    Image.new("RGB", (40, 40), (0, 200, 0)).save(data / "good.png")
    assert packed(Words()) == ([1, 4, 3], 200)
    embeddings = np.load(folder / "states.npy")
    embeddings[:] = np.nan
    for copy in (tmp_path / "cache").glob("pack-*"):
        np.save(copy / "states.npy", embeddings)
    with pytest.raises(DataError, match="damaged: restart training"):
        packed(Words())
    assert packed(Words()) == ([1, 4, 3], 200)


def test_38_formats_that_cannot_be_read(good, data: Path) -> None:
    for name in ("a.jxl", "b.psd", "c.nef"):
        put(data, name, b"x", None)
    problems = reasons(check_data(data))
    assert set(problems) == {"a.jxl", "b.psd", "c.nef"}
    assert all("convert to PNG or JPEG" in reason for reason in problems.values())


def test_38_heic_needs_another_package(good, data: Path) -> None:
    if find_spec("pillow_heif") is None:
        put(data, "a.heic", b"x", None)
        left_out(data, "a.heic", "pip install 'tintype[heif]'")
    else:
        path = put(data, "a.heic", encoded(Image.new("RGB", (64, 64), (200, 30, 40)), "HEIF"))
        assert keys(check_data(data)) == {"a.heic", "good.png"}
        assert np.abs(np.array(pixel(path)) - (200, 30, 40)).max() < 12


def test_39_edited_data_have_another_fingerprint(good, draw, data: Path, tmp_path: Path) -> None:
    def fingerprint() -> str:
        return finished(build_cache(find_pairs(data)[0], preprocess_for(16), tmp_path / "cache", Words())).fingerprint

    first = fingerprint()
    (data / "good.txt").write_text("another caption")
    assert fingerprint() != first
    (data / "good.txt").write_text("a good one")
    assert fingerprint() == first
    draw("new.png")
    assert fingerprint() != first


def test_40_no_pictures_one_picture_fewer_than_a_batch(good, data: Path) -> None:
    (data / "nothing").mkdir()
    with pytest.raises(DataError, match="is empty"):
        check_data(data / "nothing")
    report = check_data(data)
    assert report.ok
    assert any("only one picture" in note for note in report.notes)
    assert Order(0, 1).at(torch.arange(16)).tolist() == [0] * 16
    counts = torch.bincount(Order(0, 3).at(torch.arange(16)), minlength=3)
    assert sorted(counts.tolist()) == [5, 5, 6]
