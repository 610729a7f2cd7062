"""Printable text: text from strangers (data, models, receipts) as it may reach a terminal or a line to copy."""

from __future__ import annotations

import html
import shlex
import sys
from typing import TextIO


def printable(text: str) -> str:
    """The text on one line: control characters, overrides of the writing direction and undecodable bytes as escapes.

    Text that is printable already stays as it is.
    """
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str) -> str:
    """The text with its lines joined by spaces, and printable."""
    return printable(" ".join(text.splitlines()))


def print_line(text: object, file: TextIO | None = None) -> None:
    """Print one line at once, to stdout or to `file`, with every character escaped that a terminal could obey."""
    print(one_line(str(text)), file=file, flush=True)


def print_path(path: object) -> None:
    """Print a path to stdout: fit for a terminal there, and unchanged for a program that reads it."""
    if sys.stdout.isatty():
        print_line(path)
    else:
        print(path, flush=True)


def html_text(value: object) -> str:
    """A value as text for a page: no markup, no control characters, no overrides of the writing direction."""
    return html.escape(printable(str(value)))


def shell_word(text: str) -> str:
    """The text as one word of a command line to copy: a shell runs nothing in it; what is not printable is left out."""
    return shlex.quote("".join(c for c in " ".join(text.split()) if c.isprintable()))
