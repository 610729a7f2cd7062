"""The check command: check data, print the report, and write it to a file if requested."""

from __future__ import annotations

from argparse import Namespace

from rich.console import Console

from tintype.cli import options
from tintype.cli.progress import ProgressDisplay
from tintype.config import DataConfig, TextConfig
from tintype.data.check.report import Report, show, to_json, to_text
from tintype.data.check.run import check_data_steps
from tintype.printable import print_line


def check_command(args: Namespace) -> int:
    """Check data and print the report. Returns the exit code."""
    report = _checked(args)
    if args.json:
        print(to_json(report), end="")
    else:
        show(report, Console())
    if args.report is not None:
        suffix = args.report.suffix.lower()
        if suffix in (".html", ".htm"):
            content = _page(report)
        else:
            content = to_json(report) if suffix == ".json" else to_text(report)
        options.write_over(args.report, content.encode("utf-8", "backslashreplace"))
        if not args.json:
            print_line(f"report: {args.report}")
    return 1 if not report.ok or (args.strict and report.num_left_out) else 0


def _page(report: Report) -> str:
    from tintype.data.check.html import to_html

    return to_html(report)


def _checked(args: Namespace) -> Report:
    data = options.given_data_options(args).applied_to(DataConfig.of_new_runs())
    steps = check_data_steps(args.data, args.resolution, data, TextConfig(encoder=args.text))
    with ProgressDisplay("reading") as display:
        while True:
            try:
                done, total = next(steps)
            except StopIteration as end:
                report: Report = end.value
                return report
            display.update("reading", done, total)
