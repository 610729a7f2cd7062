"""The report is well-formed, needs no network, and escapes captions."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from tintype.evaluation.report.html import to_html
from tintype.evaluation.results import EvalResult, ReportData


class Tags(HTMLParser):
    """What a page is made of; void and unclosed tags are counted as HTML allows them."""

    VOID = ("meta", "img", "br", "line", "circle", "path", "rect")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
def test_the_page_is_whole_and_needs_nothing_from_elsewhere(
    evaluated: tuple[EvalResult, ReportData], several: bool
) -> None:
    page = to_html([evaluated, evaluated] if several else [evaluated])
    tags = Tags(page)
    assert tags.open == []
    assert tags.links
    assert all(link.startswith("data:image/png;base64,") for link in tags.links)
    assert "script" not in tags.names
    assert "http" not in re.sub(r"http-equiv|base64,[^\"]*", "", page)
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page))


def test_captions_cannot_change_the_page(evaluated: tuple[EvalResult, ReportData]) -> None:
    result, pictures = evaluated
    caption = '<script>alert("x")</script>" onload=alert(1) \x1b[31m'
    pictures.samples[0] = (caption, pictures.samples[0][1])
    tags = Tags(to_html([(result, pictures)]))
    assert "script" not in tags.names
    assert tags.open == []
