"""`tintype check`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tintype.cli import options
from tintype.cli.options import DATA, whole
from tintype.pipeline.limits import MAX_SIDE


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = "Nothing in DATA is ever changed."
    command.add_argument("data", metavar="DATA", help=DATA)
    command.add_argument(
        "--report", type=Path, metavar="FILE", help="also write FILE: .html with pictures, .json, text"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--strict", action="store_true", help="exit with 1 if anything is left out")
    command.add_argument(
        "--text", type=options.text_encoder, default="minilm", metavar="ENCODER", help="whose limit captions must meet"
    )
    command.add_argument("--resolution", type=whole(8, MAX_SIDE), default=32, metavar="PX", help="to train at (32)")
    options.data_options(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.cli.run.check import check

    return check(args)
