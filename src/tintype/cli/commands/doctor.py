"""`tintype doctor`."""

from __future__ import annotations

import argparse


def add_options(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.cli.run.doctor import doctor

    for line in doctor():
        print(line, flush=True)
    return 0
