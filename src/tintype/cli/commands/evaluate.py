"""`tintype evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tintype.cli.options import whole
from tintype.pipeline.request import MAX_SEED


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = "With two models the report compares them. A run is evaluated on its own pictures without --data."
    command.add_argument("models", nargs="+", metavar="MODEL", help="shipped name, model or run folder; one or two")
    command.add_argument("--data", metavar="DATA", help="the captioned pictures it was trained on")
    command.add_argument(
        "--output", type=Path, metavar="FOLDER", help="for report.html and results.json (of a run: RUN/evaluation)"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--tune", action="store_true", help="only find out which guidance and steps are best")
    command.add_argument("--save", action="store_true", help="write guidance and steps found best into the model")
    command.add_argument("--num", type=whole(8, 10**6), metavar="N", help="pictures measured of each kind (192)")
    command.add_argument("--samples", type=whole(4, 10**6), metavar="N", help="pictures made (192)")
    command.add_argument("--asked", type=whole(8, 10**5), metavar="N", help="captions of shapes, new and held out (96)")
    command.add_argument(
        "--features", metavar="NAME", help="to compare pictures in: scattering (it ships), inception, hf:NAME-OR-FOLDER"
    )
    command.add_argument("--seed", type=whole(0, MAX_SEED), metavar="N", help="of all that is drawn (0)")
    command.add_argument("--cache", type=Path, metavar="FOLDER", help="keep the decoded pictures here")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.cli.run.evaluate import run

    return run(args)
