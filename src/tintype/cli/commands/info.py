"""`tintype info`."""

from __future__ import annotations

import argparse


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", metavar="FILE|FOLDER", help="a picture, a model folder, a run folder, a shipped name")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.cli.run.info import info
    from tintype.printable import print_line

    for line in info(args.what):
        print_line(line)
    return 0
