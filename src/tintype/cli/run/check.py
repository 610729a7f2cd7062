"""The command that looks at data: check."""

from __future__ import annotations

import time
from argparse import Namespace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tintype.cli import options
from tintype.config import DataConfig, TextConfig
from tintype.data.check.report import Report, show, to_json, to_text
from tintype.data.check.run import check_steps
from tintype.printable import print_line

SHOWN_SECONDS = 0.1  # between two looks of the bar: more would cost a good part of reading a picture


def check(args: Namespace) -> int:
    """Check data and say what was found. Returns the exit code."""
    report = _checked(args)
    if args.json:
        print(to_json(report), end="")
    else:
        show(report, Console())
    if args.report is not None:
        kind = args.report.suffix.lower()
        content = (
            _page(report) if kind in (".html", ".htm") else to_json(report) if kind == ".json" else to_text(report)
        )
        options.write_over(args.report, content.encode("utf-8", "backslashreplace"))
        if not args.json:
            print_line(f"report: {args.report}")
    return 1 if not report.ok or (args.strict and report.num_left_out) else 0


def _page(report: Report) -> str:
    from tintype.data.check.html import to_html

    return to_html(report)


def _checked(args: Namespace) -> Report:
    data = options.given_data_options(args).applied_to(DataConfig(crop="none"))
    progress = check_steps(args.data, args.resolution, data, TextConfig(encoder=args.text))
    console = Console(stderr=True)
    columns = TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        shown = 0.0
        while True:
            try:
                done, total = next(progress)
            except StopIteration as end:
                report: Report = end.value
                return report
            if done == total or time.monotonic() - shown >= SHOWN_SECONDS:
                shown = time.monotonic()
                bar.update(task, completed=done, total=total)
