"""`tintype shapes`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tintype.cli.options import whole
from tintype.pipeline.limits import MAX_SIDE


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, metavar="FOLDER", help="a new or empty folder")
    command.add_argument("--num", type=whole(1, 10**6), required=True, metavar="N", help="number of pictures")
    command.add_argument("--seed", type=whole(0, 2**32 - 1), default=0, metavar="S", help="seed of the pictures (0)")
    command.add_argument("--size", type=whole(16, MAX_SIDE), default=64, metavar="PX", help="side of each picture (64)")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.printable import print_line
    from tintype.shapes.write import write_shapes

    write_shapes(args.folder, args.num, args.seed, args.size)
    print_line(f"{args.folder}: {args.num} captioned pictures")
    return 0
