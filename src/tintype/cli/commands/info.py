"""`tintype info`."""

from __future__ import annotations

import argparse


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "what",
        metavar="FILE|FOLDER",
        help="a picture, an exported page, a folder of a model, export or run, a shipped name, hf:OWNER/NAME",
    )
    command.add_argument(
        "--verify",
        action="store_true",
        help="read every file of the model, and compare size and sha256 with what was written when it was made",
    )
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.cli.run.info import info, verified
    from tintype.printable import print_line

    for line in verified(args.what) if args.verify else info(args.what):
        print_line(line)
    return 0
