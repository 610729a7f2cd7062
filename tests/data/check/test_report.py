import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from tintype.config import DataConfig, TextConfig
from tintype.data.check.html import to_html
from tintype.data.check.report import show, to_json, to_text
from tintype.data.check.run import check_data


def printed(report, width: int = 100) -> str:
    file = io.StringIO()
    show(report, Console(file=file, width=width))
    return file.getvalue()


def trouble(draw, data: Path) -> None:
    """Twelve good pictures and some that are not."""
    for number in range(12):
        draw(
            f"{number:02}.png",
            "a square, left of nothing",
            color=(20 * number, 0, 90),
            size=(40 + number, 40 + number // 2),
        )
    draw("<b>bad.png").write_bytes(b"rubbish")
    draw("flat.png", size=(400, 40))
    draw("copy.png", "x", color=(0, 0, 90), size=(40, 40))
    draw("none.png", None)


def test_the_terminal_shows_reasons_histograms_and_notes(draw, data: Path) -> None:
    trouble(draw, data)
    text = printed(check_data(data, text=TextConfig(encoder="learned")))
    assert "13 pictures with 13 captions can be used; 3 left out" in text
    assert re.search(r"1 +aspect ratio above 4:1 +flat\.png", text)
    assert re.search(r"1 +it has no caption +none\.png", text)
    assert re.search(r"32 to 63 +13 +[█#]{24}", text)
    assert "about square" in text
    assert "caption length, tokens of learned (limit 64)" in text
    assert "12 captions with the word left or right: train with flip = false" in text
    assert "1 exact copy of other pictures (00.png = copy.png)" in text
    assert all(line.isprintable() for line in printed(check_data(data), 30).splitlines())


def test_json_holds_all_of_it(draw, data: Path) -> None:
    trouble(draw, data)
    report = json.loads(to_json(check_data(data)))
    assert report["usable"] == report["captions"] == 13
    assert report["left_out"] == 3
    assert {problem["path"] for problem in report["problems"]} == {"<b>bad.png", "flat.png", "none.png"}
    assert report["duplicates"] == [["00.png", "copy.png"]]
    assert report["histograms"]["shorter side, pixels"] == {"32 to 63": 13}


def test_some_captions_are_shown_as_the_encoder_reads_them(draw, data: Path) -> None:
    for number in range(20):
        draw(f"{number:02}.png", f"Ein GRÜNER  Stern, number {number}\nanother", color=(9 * number, 0, 90))
    report = check_data(data, text=TextConfig(encoder="minilm", max_tokens=8))
    assert len(report.read) == 5
    assert all(caption.text.startswith("ein gruner stern") and caption.num_cut > 0 for caption in report.read)
    text = printed(report)
    assert "captions as the text encoder minilm reads them:" in text
    assert re.search(r"[0-9]{2}\.png +ein gruner stern.* \[\d more tokens? cut off\] \(the first of 2\)", text)
    assert len(json.loads(to_json(report))["captions_as_read"]) == 5
    assert "ein gruner stern" in to_html(report)
    assert "ein gruner stern" in to_text(report)
    learned = check_data(data, text=TextConfig(encoder="learned"))
    assert learned.read[0].text.startswith("ein grüner stern")
    assert learned.read[0].num_cut == 0


def test_captions_of_classes_are_called_fine(draw, data: Path) -> None:
    for number in range(40):
        draw(f"{number:02}.png", f"{'cat dog bird'.split()[number % 3]}", color=(6 * number, 0, 90))
    report = check_data(data, text=TextConfig(encoder="minilm"))
    assert {caption.text for caption in report.read} == {"cat", "dog", "bird"}
    (note,) = (note for note in report.notes if "captions" in note)
    assert note.startswith("3 different captions stand 40 times (most often 'cat', 14 times), as class names do: that")


@pytest.mark.parametrize("caption", ["IMG_{:04}", "DSC0{:04}", "20230104_17{:02}", "{:032x}4", "{}", "photo {}"])
def test_captions_that_say_nothing_are_called_so(draw, data: Path, caption: str) -> None:
    for number in range(10):
        draw(f"{number:02}.png", caption.format(number + 7), color=(6 * number, 0, 90))
    (note,) = (note for note in check_data(data).notes if "captions" in note)
    assert note.startswith("10 captions of 10 are numbers, dates or names of files")


def test_pictures_without_a_caption_get_advice(draw, data: Path) -> None:
    draw("a.png")
    for number in range(9):
        draw(f"dogs/IMG_{number}.png", None, color=(6 * number, 0, 90))
    (note,) = (note for note in check_data(data).notes if "caption-from" in note)
    assert note.startswith("9 pictures without a caption: --no-caption name takes the file names as captions, ")
    assert "--caption-from folder the names of the folders ('dogs')" in note


def test_text_lists_every_problem(draw, data: Path) -> None:
    trouble(draw, data)
    assert "\nflat.png: aspect ratio above 4:1\n" in to_text(check_data(data))


class Page(HTMLParser):
    """Collects tags and the sources of pictures; whatever is open at the end was not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href") and value]
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_the_worst_and_carries_everything_in_it(draw, data: Path) -> None:
    trouble(draw, data)
    page = to_html(check_data(data))
    parser = Page()
    parser.feed(page)
    assert parser.open == []
    assert "script" not in parser.tags
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    sizes = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size for source in parser.sources]
    assert (112, 11) in sizes  # the long one, left out
    assert "&lt;b&gt;bad.png" in page
    assert "<b>bad" not in page
    assert "Left out: not a picture that can be read" in page
    assert "Exact copies" in page
    assert page.count("<div>cannot be read</div>") == 1


def test_the_page_of_a_folder_where_nothing_can_be_used(draw, data: Path) -> None:
    draw("a.png").write_bytes(b"")
    page = to_html(check_data(data, options=DataConfig()))
    assert "no picture can be used" in page


def test_look_alikes_on_both_sides_of_what_is_held_out_are_told(data: Path) -> None:
    for number in range(60):
        for copy in range(2):
            image = Image.linear_gradient("L").rotate(6 * number, expand=False).resize((40, 40)).convert("RGB")
            image.putpixel((0, 0), (copy, copy, copy))
            image.save(data / f"{number:02}-{copy}.png")
            (data / f"{number:02}-{copy}.txt").write_text("x")
    report = check_data(data)
    assert report.leaks
    assert all(one[:2] == other[:2] for one, other in report.leaks)
    assert any("both trained on and held out" in note for note in report.notes)
    assert "all pictures have the caption 'x': the model draws them whatever it is asked for" in report.notes
