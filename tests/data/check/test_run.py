from pathlib import Path

import pytest

from tintype.config import TextConfig
from tintype.data.check.run import check_data, check_data_steps
from tintype.errors import DataError


def colored(draw, count: int) -> None:
    for i in range(count):
        draw(f"{i:03}.png", f"color {i}", color=(i * 2, 255 - i, i))


def test_a_good_folder(draw, data: Path) -> None:
    colored(draw, 120)
    report = check_data(data)
    assert report.ok
    assert len(report.pairs) == 120
    assert report.lines() == [f"{data}: 120 pictures with 120 captions can be used"]


def test_every_kind_of_trouble_is_counted_with_examples(draw, data: Path) -> None:
    colored(draw, 20)
    for i in range(5):
        draw(f"bad{i}.png").write_bytes(b"rubbish")
        draw(f"none{i}.png", None)
    draw("short.png").write_bytes((data / "001.png").read_bytes()[:60])
    report = check_data(data)
    assert len(report.pairs) == 20
    assert report.num_left_out == 11
    groups = dict(report.by_reason())
    assert groups["not a picture that can be read"] == [f"bad{i}.png" for i in range(5)]
    assert groups["it has no caption"] == [f"none{i}.png" for i in range(5)]
    text = "\n".join(report.lines())
    assert "5 x not a picture that can be read (bad0.png, bad1.png, bad2.png, ...)" in text
    assert "11 left out" in text
    assert "35% of the pictures are left out" in text


def test_one_picture_is_allowed_with_a_warning(draw, data: Path) -> None:
    draw("a.png")
    report = check_data(data)
    assert report.ok
    assert any("memorize" in note for note in report.notes)


def test_exact_copies_are_only_noted(draw, data: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        draw(name)
    report = check_data(data)
    assert len(report.pairs) == 3
    assert report.duplicates == (("a.png", "b.png", "c.png"),)
    assert any(note.startswith("2 exact copies") for note in report.notes)


def test_conversions_and_cut_captions_are_noted(draw, data: Path) -> None:
    draw("a.png", "a " * 9, mode="L", color=7)
    draw("b.png", "one\ntwo and so on and on and on and on and on")
    notes = "\n".join(check_data(data, text=TextConfig(encoder="learned", max_tokens=3)).notes)
    assert "1 picture: without color" in notes
    assert "1 picture with several captions" in notes
    assert "2 captions are longer than the 3 tokens that learned reads" in notes


def test_nothing_usable_is_a_verdict_not_a_crash(draw, data: Path) -> None:
    draw("a.png").write_bytes(b"")
    report = check_data(data)
    assert not report.ok
    assert "no picture can be used; 1 left out" in report.lines()[0]


def test_no_pairs_at_all_is_an_error(data: Path) -> None:
    with pytest.raises(DataError):
        check_data(data)


def test_progress_counts_every_picture(draw, data: Path) -> None:
    colored(draw, 30)
    assert list(check_data_steps(data)) == [(i, 30) for i in range(1, 31)]


def test_checking_can_be_stopped(draw, data: Path) -> None:
    colored(draw, 30)
    progress = check_data_steps(data)
    next(progress)
    progress.close()


def test_checking_changes_nothing(draw, data: Path) -> None:
    colored(draw, 3)
    before = sorted((p.name, p.stat().st_mtime_ns) for p in [data, *data.iterdir()])
    check_data(data)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in [data, *data.iterdir()]) == before


def test_odd_names_are_printed_as_escapes(draw, data: Path) -> None:
    try:
        draw("a\n\x1b[31m.png", None)
    except OSError:
        pytest.skip("this system has no such names")
    draw("b.png")
    lines = check_data(data).lines()
    assert all(line.isprintable() for line in lines)
