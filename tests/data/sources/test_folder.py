import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from tintype.config import DataConfig
from tintype.data.sources.find import Problem, find_pairs
from tintype.data.sources.walk import RUN
from tintype.errors import DataError
from tintype.printable import printable


def captions(data: Path) -> dict[str, tuple[str, ...]]:
    return {pair.key: pair.captions for pair in find_pairs(data)[0]}


def reasons(data: Path) -> dict[str, str]:
    return {problem.path: problem.reason for problem in find_pairs(data)[1]}


def link(at: Path, to: Path | str) -> None:
    try:
        at.symlink_to(to)
    except OSError:
        pytest.skip("this system makes no symbolic links here")


def snapshot(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.lstat().st_mtime_ns, p.lstat().st_size) for p in [folder, *folder.rglob("*")])


def test_text_files_beside_pictures_in_any_folder(draw, data: Path) -> None:
    draw("b.png", "a bee")
    draw("deep/er/a.JPG", "an ant")
    draw("c.webp", None)
    (data / "c.caption").write_text("a cow")
    draw("d.gif", None)
    (data / "d.gif.txt").write_text("a dog")
    before = snapshot(data)
    assert captions(data) == {
        "b.png": ("a bee",),
        "c.webp": ("a cow",),
        "d.gif": ("a dog",),
        "deep/er/a.JPG": ("an ant",),
    }
    assert find_pairs(data)[1] == []
    assert [pair.key for pair in find_pairs(data)[0]] == ["b.png", "c.webp", "d.gif", "deep/er/a.JPG"]
    assert snapshot(data) == before


@pytest.mark.parametrize("field", ["text", "caption", "prompt"])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_metadata_at_the_root_and_in_folders(draw, data: Path, kind: str, field: str) -> None:
    draw("images/a.png", None)
    draw("more/b.png", None)
    rows = {"jsonl": '{{"file_name": "{0}", "{2}": "{1}"}}\n', "csv": f"file_name,{field}\n{{0}},{{1}}\n"}[kind]
    (data / f"metadata.{kind}").write_text(rows.format("images/a.png", "an ant", field))
    (data / "more" / f"metadata.{kind}").write_text(rows.format("./b.png", "a bee", field))
    assert captions(data) == {"images/a.png": ("an ant",), "more/b.png": ("a bee",)}
    assert reasons(data) == {}


def test_a_metadata_row_may_name_a_file_without_suffix_or_with_backslashes(draw, data: Path) -> None:
    draw("images/a.png", None)
    shutil.copy(data / "images/a.png", data / "images/0001")
    (data / "metadata.jsonl").write_text(
        '{"file_name": "images\\\\a.png", "text": "x"}\n{"file_name": "images/0001", "text": "y"}\n'
    )
    assert captions(data) == {"images/0001": ("y",), "images/a.png": ("x",)}


def test_metadata_comes_before_text_files_and_jsonl_before_csv(draw, data: Path) -> None:
    draw("a.png", "from the text file")
    (data / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "from jsonl"}')
    (data / "metadata.csv").write_text("file_name,text\na.png,from csv\n")
    assert captions(data) == {"a.png": ("from jsonl",)}
    assert set(reasons(data)) == {"a.txt", "metadata.csv"}
    assert not any(p.left_out for p in find_pairs(data)[1])
    assert [p.left_out for p in find_pairs(data)[1] if p.path == "a.txt"] == [False]


def test_txt_comes_before_caption_with_a_warning(draw, data: Path) -> None:
    draw("a.png", "text")
    (data / "a.caption").write_text("other")
    assert captions(data) == {"a.png": ("text",)}
    assert not find_pairs(data)[1][0].left_out


def test_bad_rows_are_listed_by_line(draw, data: Path) -> None:
    draw("a.png", None)
    draw("b.png", None)
    (data / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "text": "x"}\n'
        '{"file_name": "gone.png", "text": "x"}\n'
        '{"file_name": "a.png", "text": "again"}\n'
        '{"file_name": "../a.png", "text": "x"}\n'
        '{"file_name": "/etc/passwd", "text": "x"}\n'
        '{"file_name": "C:\\\\a.png", "text": "x"}\n'
        "not json\n"
    )
    assert captions(data) == {"a.png": ("x", "again")}
    problems = reasons(data)
    outside = ["metadata.jsonl:4: ../a.png", "metadata.jsonl:5: /etc/passwd", "metadata.jsonl:6: C:\\a.png"]
    assert set(problems) == {"b.png", "metadata.jsonl:2: gone.png", "metadata.jsonl:7", *outside}
    assert "missing (file_name is relative to the metadata file)" in problems["metadata.jsonl:2: gone.png"]
    assert all("leads out" in problems[path] for path in outside)
    assert "no caption" in problems["b.png"]


def test_missing_empty_and_undecodable_captions_leave_their_picture_out(draw, data: Path) -> None:
    draw("good.png")
    draw("missing.png", None)
    draw("empty.png", " \n")
    draw("latin.png", None)
    (data / "latin.txt").write_bytes("ein Käfer".encode("latin-1"))
    assert set(captions(data)) == {"good.png"}
    problems = reasons(data)
    assert set(problems) == {"missing.png", "empty.txt", "latin.txt"}
    assert "UTF-8" in problems["latin.txt"]


def test_shared_and_stray_caption_files_are_mentioned(draw, data: Path) -> None:
    draw("a.jpg", "both")
    draw("a.png", None)
    (data / "own.txt").write_text("of nothing")
    pairs, problems = find_pairs(data)
    assert [pair.captions for pair in pairs] == [("both",), ("both",)]
    assert [(p.path, p.left_out) for p in problems] == [("a.txt", False), ("own.txt", False)]


def test_a_full_name_decides_between_two_pictures_of_one_stem(draw, data: Path) -> None:
    draw("a.jpg", None)
    draw("a.png", None)
    (data / "a.jpg.txt").write_text("the photograph")
    (data / "a.png.txt").write_text("the drawing")
    assert captions(data) == {"a.jpg": ("the photograph",), "a.png": ("the drawing",)}
    assert reasons(data) == {}


def test_names_match_across_unicode_forms(draw, data: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Käfer") for form in ("NFC", "NFD"))
    draw(f"{apart}.png", None)
    (data / f"{composed}.txt").write_text("a beetle")
    draw("sub/é.png".replace("é", unicodedata.normalize("NFD", "é")), None)
    (data / "metadata.jsonl").write_text('{"file_name": "sub/\\u00e9.png", "text": "a letter"}')
    assert sorted(captions(data).values()) == [("a beetle",), ("a letter",)]


def test_junk_is_ignored_without_a_word(draw, data: Path) -> None:
    draw("a.png")
    for name in ("Thumbs.db", ".DS_Store", "._a.png", ".ipynb_checkpoints/a.png", "__MACOSX/._a.png", ".hidden.jpe"):
        path = data / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"junk")
    assert set(captions(data)) == {"a.png"}
    assert reasons(data) == {}


def test_pipes_folders_and_foreign_formats_named_like_pictures(draw, data: Path) -> None:
    draw("a.png")
    draw("folder.png/inside.png", "within")
    (data / "photo.jxl").write_bytes(b"x")
    (data / "art.psd").write_bytes(b"x")
    if hasattr(os, "mkfifo"):
        os.mkfifo(data / "pipe.png")
        os.mkfifo(data / "a.caption")  # as long as there is a.txt, it is not looked at
        draw("b.png", None)
        os.mkfifo(data / "b.txt")
        assert reasons(data)["pipe.png"] == "not a regular file"
        assert "not a regular file" in reasons(data)["b.txt"]
    assert set(captions(data)) == {"a.png", "folder.png/inside.png"}
    assert "PNG" in reasons(data)["photo.jxl"]
    assert "PNG" in reasons(data)["art.psd"]


def test_links_are_followed_but_not_in_circles(draw, data: Path, tmp_path: Path) -> None:
    draw("sub/a.png", "within")
    link(data / "sub" / "up", data)
    link(data / "again", data / "sub")
    link(data / "loop.png", "loop.png")
    link(data / "gone.png", "nowhere.png")
    other = tmp_path / "other"
    shutil.copytree(data / "sub", other, ignore=shutil.ignore_patterns("up"))
    link(data / "elsewhere", other)
    assert set(captions(data)) == {"sub/a.png", "elsewhere/a.png"}
    assert set(reasons(data)) == {"loop.png", "gone.png", "elsewhere"}
    assert "a folder outside the data folder, whose files are used" in reasons(data)["elsewhere"]


def test_a_folder_that_may_not_be_read_is_listed(draw, data: Path) -> None:
    draw("a.png")
    closed = data / "closed"
    closed.mkdir(mode=0o000)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("this user may read everything")
        assert "permission" in reasons(data)["closed"]
    finally:
        closed.chmod(0o700)


def test_undecodable_file_names_survive(draw, data: Path) -> None:
    draw("a.png")
    name = os.fsdecode(b"\xff\xfe.png")
    try:
        shutil.copy(data / "a.png", data / name)
    except OSError:
        pytest.skip("this system has no such names")
    (data / os.fsdecode(b"\xff\xfe.txt")).write_text("odd")
    assert captions(data)[name] == ("odd",)
    assert printable(name).isascii()


def message(data: Path) -> str:
    with pytest.raises(DataError) as caught:
        find_pairs(data)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_messages_say_what_is_wrong_and_what_to_do(draw, data: Path, tmp_path: Path) -> None:
    assert "there is no folder" in message(tmp_path / "nowhere")
    assert "is empty" in message(data)
    (data / "a.txt").write_text("a cat")
    (data / "b.txt").write_text("a cat")
    assert "2 text files but no pictures" in message(data)
    assert "there is no folder" in message(data / "a.txt")
    (data / "a.txt").unlink()
    (data / "b.txt").unlink()
    (data / "train.tar").write_bytes(b"x")
    assert "not a tar file" in message(data / "train.tar")
    assert "train.tar: not a tar file" in message(data)
    (data / "train.tar").unlink()
    (data / "train.tar.gz").write_bytes(b"x")
    assert "unpack it" in message(data / "train.tar.gz")
    assert "unpack it" in message(data)
    (data / "train.tar.gz").unlink()
    picture = draw("cat.png", None)
    assert "not a folder" in message(picture)
    text = message(data)
    assert all(part in text for part in ("cat.txt", "cat.caption", "metadata.jsonl", "metadata.csv", "cat.png"))
    draw("dog.png", None)
    assert "none of the 2 pictures" in message(data)
    (data / "captions.csv").write_text("file_name,text\n")
    assert "captions.csv is not read" in message(data)
    (data / "metadata.csv").write_text("name,label\ncat.png,cat\n")
    assert "its first line has: name, label" in message(data)
    assert "give the folder" in message(data / "metadata.csv")


def test_a_folder_of_unreadable_kinds_says_so(data: Path) -> None:
    (data / "a.jxl").write_bytes(b"x")
    assert "convert" in message(data)


def test_metadata_that_names_nothing_says_so(data: Path) -> None:
    (data / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}\n')
    assert "metadata.jsonl:1" in message(data)


def test_problems_are_sorted(draw, data: Path) -> None:
    for name in ("c.png", "a.png", "b.png"):
        draw(name, None)
    draw("d.png")
    assert find_pairs(data)[1] == [Problem(name, "it has no caption") for name in ("a.png", "b.png", "c.png")]


def test_a_row_for_each_caption_gives_a_picture_all_of_them(draw, data: Path) -> None:
    draw("a.png", None)
    draw("b.png", None)
    rows = [{"file_name": f"{name}.png", "text": f"{name} {n}"} for n in (1, 2, 2) for name in "ab"]
    (data / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert captions(data) == {"a.png": ("a 1", "a 2"), "b.png": ("b 1", "b 2")}
    assert {p.reason for p in find_pairs(data)[1]} == {"a second row for the same file with the same caption"}
    assert not any(problem.left_out for problem in find_pairs(data)[1])
    (data / "metadata.jsonl").write_text("\n".join(json.dumps({**row, "text": row["text"] * 10**5}) for row in rows))
    assert captions(data) == {f"{name}.png": (f"{name} 1" * 10**5, f"{name} 2" * 10**5) for name in "ab"}
    long = [{"file_name": "a.png", "text": f"{n} " * 300_000} for n in range(3)]
    (data / "metadata.jsonl").write_text("\n".join(map(json.dumps, long)))
    assert reasons(data)["metadata.jsonl:2"] == "its captions are larger than 1 MB"


def test_a_caption_replaces_the_substitute_of_another_row(draw, data: Path) -> None:
    draw("red_cat.png", None)
    rows = [{"file_name": "red_cat.png", "text": text} for text in ("", "a cat", "")]
    (data / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs, _ = find_pairs(data, DataConfig(no_caption="name"))
    assert pairs[0].captions == ("a cat",)


def test_two_rows_with_another_sha256_are_no_captions_of_one_file(draw, data: Path) -> None:
    draw("a.png", None)
    rows = [{"file_name": "a.png", "text": letter, "sha256": letter * 64} for letter in "ab"]
    (data / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert captions(data) == {"a.png": ("a",)}
    assert "another sha256" in reasons(data)["metadata.jsonl:2"]


@pytest.mark.parametrize("path", ["train/a.png", "{data}/train/a.png", "../train/a.png", "data/train/a.png"])
def test_a_row_may_name_its_own_folder(draw, data: Path, path: str) -> None:
    draw("train/a.png", None)
    (data / "train" / "metadata.jsonl").write_text(json.dumps({"file_name": path.format(data=data), "text": "an ant"}))
    assert captions(data) == {"train/a.png": ("an ant",)}
    assert captions(data / "train") == {"a.png": ("an ant",)}


def test_a_folder_in_a_folder_of_the_same_name_is_the_one_that_is_meant(draw, data: Path) -> None:
    draw("train/a.png", None, "red")
    draw("train/train/a.png", None, "blue")
    (data / "train" / "metadata.jsonl").write_text('{"file_name": "train/a.png", "text": "the inner"}')
    assert captions(data) == {"train/train/a.png": ("the inner",)}


@pytest.mark.parametrize("by_rows", [True, False])
def test_names_in_two_unicode_forms_have_their_own_captions(draw, data: Path, by_rows: bool) -> None:
    names = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    for name in names:
        draw(f"{name}.png", None if by_rows else name.encode().hex())
    if len(list(data.glob("*.png"))) < 2:
        pytest.skip("this file system has one form of each name")
    if by_rows:
        rows = [{"file_name": f"{name}.png", "text": name.encode().hex()} for name in names]
        (data / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert captions(data) == {f"{name}.png": (name.encode().hex(),) for name in names}
    assert all("only in case or accents" in reason for reason in reasons(data).values())


def test_a_run_or_model_in_a_data_folder_is_not_read_as_data(tmp_path: Path) -> None:
    for name in ("cat", "model/samples/000010", "out/other"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(path)
    for run, part in (("model", "start.json"), ("out", "model.safetensors")):
        (tmp_path / run / "config.json").write_text("{}")
        (tmp_path / run / part).write_text("{}")
    pairs, problems = find_pairs(tmp_path, DataConfig(no_caption="name"))[:2]
    assert [pair.key for pair in pairs] == ["cat.png"]
    assert {problem.path: problem.reason for problem in problems} == {"model": RUN, "out": RUN}
