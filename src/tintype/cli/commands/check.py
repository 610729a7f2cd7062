"""The options of `tintype check`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tintype.cli import options
from tintype.cli.options import DATA, whole
from tintype.pipeline.limits import MAX_SIDE


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "DATA is only read, never changed. The exit code is 1 if no picture is usable (with --strict: if any is left "
        "out), else 0."
    )
    command.add_argument("data", metavar="DATA", help=DATA)
    command.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="also write FILE: .html with thumbnails, .json, else text",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.add_argument("--strict", action="store_true", help="exit with code 1 if any picture is left out")
    command.add_argument(
        "--text",
        type=options.text_encoder,
        default="auto",
        metavar="ENCODER",
        help="text encoder that must fit captions: auto, minilm, learned or hf:NAME-OR-FOLDER (auto)",
    )
    command.add_argument(
        "--resolution",
        type=whole(8, MAX_SIDE),
        default=32,
        metavar="PX",
        help="training resolution (32)",
    )
    options.data_options(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.cli.run.check import check_command

    return check_command(args)
