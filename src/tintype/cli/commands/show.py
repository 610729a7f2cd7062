"""`tintype info` and `tintype doctor`."""

from __future__ import annotations

import argparse


def add_info_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", metavar="FILE|FOLDER", help="a picture, a model folder, a run folder, a shipped name")
    command.set_defaults(run=run_info)


def run_info(args: argparse.Namespace) -> int:
    from tintype.cli.run.info import info

    print("\n".join(info(args.what)))
    return 0


def add_doctor_options(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=run_doctor)


def run_doctor(args: argparse.Namespace) -> int:
    from tintype.cli.run.info import doctor

    for line in doctor():
        print(line, flush=True)
    return 0
