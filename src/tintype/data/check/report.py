"""Check reports, printed on a terminal, as text and as JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tintype.data.sources.pairs import EXAMPLES, Pair, Problem
from tintype.printable import one_line, printable

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_BAR = 24  # characters


class Histogram(NamedTuple):
    """The number of pictures or captions in each range."""

    title: str
    rows: tuple[tuple[str, int], ...]  # range, number


class ReadCaption(NamedTuple):
    """A caption as a text encoder reads it."""

    key: str  # of its picture
    text: str
    num_cut: int  # tokens at its end that are not read
    num_captions: int  # of the picture, of which this is the first

    def line(self) -> str:
        """The text, and what is missing of it."""
        cut = f" [{counted(self.num_cut, 'more token')} cut off]" if self.num_cut else ""
        several = f" (the first of {self.num_captions})" if self.num_captions > 1 else ""
        return f"{printable(self.text) or '(nothing)'}{cut}{several}"


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a check."""

    data: str
    pairs: Sequence[Pair]  # usable for training
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]  # remarks about the whole, one line each
    duplicates: tuple[tuple[str, ...], ...]  # keys of files with the same content, two or more each
    near_duplicates: tuple[tuple[str, ...], ...] = ()  # keys of near-duplicates, two or more each, copies left aside
    leaks: tuple[tuple[str, str], ...] = ()  # keys of near-duplicates: (trained on, held out)
    histograms: tuple[Histogram, ...] = ()
    extremes: tuple[tuple[str, tuple[int, ...]], ...] = ()  # pictures to look at: title, indices into `pairs`
    read: tuple[ReadCaption, ...] = ()  # some captions as the text encoder reads them
    encoder: str = ""  # the text encoder

    @property
    def ok(self) -> bool:
        """Whether there is anything to train on."""
        return bool(self.pairs)

    @property
    def num_left_out(self) -> int:
        return sum(problem.left_out for problem in self.problems)

    @property
    def read_title(self) -> str:
        return f"captions as the text encoder {self.encoder} reads them"

    def groups(self) -> list[tuple[bool, str, list[Problem]]]:
        """The problems by reason, as (left out, reason, problems): those left out first, then the most frequent."""
        groups: dict[tuple[bool, str], list[Problem]] = defaultdict(list)
        for problem in self.problems:
            groups[problem.left_out, problem.reason].append(problem)
        ordered = sorted(groups.items(), key=lambda item: (not item[0][0], -num_files(item[1]), item[0][1]))
        return [(left_out, reason, problems) for (left_out, reason), problems in ordered]

    def by_reason(self) -> list[tuple[str, list[str]]]:
        """Reason and paths, those left out first, then the most frequent."""
        return [(reason, [problem.path for problem in problems]) for _, reason, problems in self.groups()]

    def verdict(self) -> str:
        """One line: the number of usable pictures and of those left out."""
        num_captions = sum(len(pair.captions) for pair in self.pairs)
        verdict = f"{counted(len(self.pairs), 'picture')} with {counted(num_captions, 'caption')} can be used"
        left_out = f"; {self.num_left_out} left out" if self.num_left_out else ""
        return f"{printable(self.data)}: {verdict if self.ok else 'no picture can be used'}{left_out}"

    def lines(self) -> list[str]:
        """The verdict, the problems by reason with examples, and the notes, as plain lines."""
        reasons = [f"  {num_files(found)} x {reason} ({examples(found)})" for _, reason, found in self.groups()]
        return [one_line(line) for line in (self.verdict(), *reasons, *(f"  note: {note}" for note in self.notes))]


def counted(number: int, singular: str, plural: str = "") -> str:
    """A number and its noun."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def num_files(problems: Iterable[Problem]) -> int:
    """The number of files that problems stand for."""
    return sum(problem.number for problem in problems)


def examples(problems: Sequence[Problem]) -> str:
    """The first few paths, printable."""
    shown = ", ".join(printable(problem.path) for problem in problems[:EXAMPLES])
    return shown + (", ..." if num_files(problems) > EXAMPLES else "")


def show(report: Report, console: Console) -> None:
    """Print a report with tables and small histograms."""
    _print(console, report.verdict())
    for title, is_left_out in (("left out", True), ("remarks", False)):
        rows = [(reason, problems) for left_out, reason, problems in report.groups() if left_out is is_left_out]
        if rows:
            table = _table(2)
            for reason, problems in rows:
                table.add_row(Text(f"{num_files(problems):,}"), Text(printable(reason)), Text(examples(problems)))
            _print(console, f"{title}:")
            _print(console, table)
    for histogram in report.histograms:
        _print(console, f"{histogram.title}:")
        _print(console, _histogram_table(histogram, console.encoding.lower().startswith("utf")))
    if report.read:
        table = _table(2)
        for caption in report.read:
            table.add_row("", Text(printable(caption.key)), Text(caption.line()))
        _print(console, f"{report.read_title}:")
        _print(console, table)
    for note in report.notes:
        _print(console, f"note: {note}")


def _print(console: Console, content: RenderableType) -> None:
    text = one_line(content) if isinstance(content, str) else content
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=isinstance(content, str))


def _table(num_folding: int) -> Table:
    """Three columns without a head; the last `num_folding` may fold."""
    table = Table(box=None, show_header=False, pad_edge=True, padding=(0, 1))
    for number in range(3):
        table.add_column(justify="left" if number else "right", overflow="fold", no_wrap=number < 3 - num_folding)
    return table


def _histogram_table(histogram: Histogram, blocks: bool) -> Table:
    most = max(number for _, number in histogram.rows)
    table = _table(1)
    table.columns[1].justify = "right"
    for label, number in histogram.rows:
        table.add_row(Text(printable(label)), Text(f"{number:,}"), Text(_bar(number / most, blocks)))
    return table


def _bar(share: float, blocks: bool) -> str:
    if not blocks:
        return "#" * round(share * _BAR)
    eighths = round(share * _BAR * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def to_text(report: Report) -> str:
    """The lines for the terminal, followed by every problem."""
    read = [f"  {printable(caption.key)}: {caption.line()}" for caption in report.read]
    if read:
        read = [f"{report.read_title}:", *read]
    lines = [*report.lines(), *read, "", *(f"{printable(p.path)}: {one_line(p.reason)}" for p in report.problems)]
    return "\n".join(lines) + "\n"


def to_json(report: Report) -> str:
    """The whole report as JSON."""
    content: dict[str, Any] = {
        "data": report.data,
        "usable": len(report.pairs),
        "captions": sum(len(pair.captions) for pair in report.pairs),
        "left_out": report.num_left_out,
        "problems": [
            {"path": p.path, "reason": p.reason, "left_out": p.left_out, "files": p.number} for p in report.problems
        ],
        "duplicates": [list(keys) for keys in report.duplicates],
        "near_duplicates": [list(keys) for keys in report.near_duplicates],
        "leaks": [list(keys) for keys in report.leaks],
        "histograms": {histogram.title: dict(histogram.rows) for histogram in report.histograms},
        "captions_as_read": [
            {"path": caption.key, "text": caption.text, "cut": caption.num_cut} for caption in report.read
        ],
        "notes": list(report.notes),
    }
    return json.dumps(content, indent=1) + "\n"


def pictures_to_review(report: Report, most: int) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """The pictures to look at, at most `most` under each title: the title, and (key, source) of each."""
    sections = (
        ("exact copies", report.duplicates),
        ("near-duplicates", report.near_duplicates),
        ("near-duplicates, one trained on and one held out", report.leaks),
    )
    chosen = {title: [key for group in groups for key in group][:most] for title, groups in sections}
    wanted = {key for keys in chosen.values() for key in keys}
    sources = {pair.key: pair.source for pair in report.pairs if pair.key in wanted} if wanted else {}
    for left_out, reason, problems in report.groups():
        if left_out:
            yield f"left out: {reason}", [(p.path, p.source) for p in problems[:most]]
    for title, keys in chosen.items():
        if keys:
            yield title, [(key, sources.get(key)) for key in keys]
    for title, indices in report.extremes:
        yield title, [(report.pairs[index].key, report.pairs[index].source) for index in indices[:most]]
