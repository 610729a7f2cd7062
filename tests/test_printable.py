"""Text from strangers: no terminal obeys it, no shell runs it, no page shows it as markup, and there is one way out."""

from __future__ import annotations

import ast
import io
import shlex
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.printable import html_text, one_line, print_line, print_path, printable, shell_word

SRC = Path(__file__).parent.parent / "src" / "tintype"
ESCAPES = {
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "\x9b31m": "\\x9b31m",  # the same in one character
    "safe\u202egnp.exe": "safe\\u202egnp.exe",  # shows as safeexe.png
    "a\u2066b\u2069": "a\\u2066b\\u2069",
    "two\r\nlines": "two\\r\\nlines",
    "\udcff": "\\udcff",
    "\U000e0041": "\\U000e0041",  # a tag: invisible
}


@pytest.mark.parametrize("text", ESCAPES)
def test_what_a_terminal_could_obey_becomes_an_escape(text: str) -> None:
    assert printable(text) == ESCAPES[text]


@pytest.mark.parametrize("text", ["a red circle", "東京 の 家", "Ünïcode ½ €", "🍕", "C:\\x1b", "שלום", ""])
def test_what_is_printable_stays(text: str) -> None:
    assert printable(text) == text


@given(st.text(st.characters()))
def test_any_text_is_printable_afterwards_and_stays_so(text: str) -> None:
    safe = printable(text)
    assert safe.isprintable()
    assert printable(safe) == safe
    assert one_line(text).isprintable()
    safe.encode()


def test_a_line_stays_one_line() -> None:
    file = io.StringIO()
    print_line("a\nforged: line\x85and \x1b[2Janother", file)
    assert file.getvalue() == "a forged: line and \\x1b[2Janother\n"


def test_a_path_is_exact_for_programs_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    print_path("a\u202fb\x1b.png")
    assert capsys.readouterr().out == "a\u202fb\x1b.png\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_path("a\u202fb\x1b.png")
    assert capsys.readouterr().out == "a\\u202fb\\x1b.png\n"


@pytest.mark.parametrize(
    "text", ["$(touch ran)", "`touch ran`", "'; touch ran; '", "\\", "a\\'", '"$HOME"', "!!", "", "a & b | c > d", "~"]
)
def test_a_shell_reads_a_word_as_it_is(text: str, tmp_path: Path) -> None:
    echo = subprocess.run(["sh", "-c", f"printf %s {shell_word(text)}"], capture_output=True, cwd=tmp_path, check=True)
    assert echo.stdout.decode() == text
    assert not list(tmp_path.iterdir())


@given(st.text(st.characters()))
def test_a_word_is_one_printable_word(text: str) -> None:
    word = shell_word(text)
    assert word.isprintable()
    assert len(shlex.split(word)) == 1


class Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.text += "".join(value or "" for _, value in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.characters() | st.sampled_from("<>&\"'")))
def test_a_page_shows_text_as_text(text: str) -> None:
    page = Page(f'<p title="{html_text(text)}">{html_text(text)}</p>')
    assert page.tags == ["p"]
    assert page.text == 2 * printable(text)


def calls(file: Path) -> list[str]:
    """The names of what a file calls: print, self.console.print, html.escape."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


# Where text leaves for a terminal or a page. Everything else uses what is defined there.
WAYS_OUT = {
    "printable.py": ["html.escape", "print"],
    "training/console.py": ["console.print"],
    "data/check/report.py": ["console.print"],
    "cli/run/check.py": ["print"],  # JSON, in ASCII
    "cli/run/evaluate.py": ["print"],  # likewise
    "cli/run/explain.py": ["print"],
    "cli/run/verify.py": ["print"],
}


def test_there_are_no_other_ways_to_a_terminal_or_a_page() -> None:
    ways_by_file = {}
    for file in SRC.rglob("*.py"):
        ways = {
            name
            for name in calls(file)
            if name == "print" or name.endswith((".print", "html.escape", "stdout.write", "stderr.write"))
        }
        if ways:
            ways_by_file[file.relative_to(SRC).as_posix()] = sorted(ways)
    assert ways_by_file == WAYS_OUT
