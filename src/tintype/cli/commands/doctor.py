"""`tintype doctor`."""

from __future__ import annotations

import argparse


def add_options(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.cli.run.doctor import doctor
    from tintype.printable import print_line

    for line in doctor():
        print_line(line)
    return 0
