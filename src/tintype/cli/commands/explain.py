"""`tintype explain`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tintype.cli import options
from tintype.cli.options import whole


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "The way of a picture is drawn again from its receipt. The share of a training picture is the mean of its "
        "weights in the ideal denoiser along that way: what a model that knows its pictures by heart would use. It is "
        "not the influence of the picture on training. A picture without a receipt is compared with the training "
        "pictures alone; then give --model."
    )
    command.add_argument("picture", type=Path, metavar="PICTURE", help="a picture, best one made by the model")
    command.add_argument("--model", metavar="NAME|FOLDER", help="the model that made it, if its name does not find it")
    command.add_argument("--data", metavar="DATA", help="the pictures it was trained on (a run: its own cache)")
    command.add_argument("--num", type=whole(1, 20), default=8, metavar="N", help="training pictures to name (8)")
    command.add_argument(
        "--exclude",
        type=Path,
        metavar="LIST",
        help="add the named pictures to a list that tintype train --exclude takes, to train again without them",
    )
    command.add_argument(
        "--output", "--out", type=options.picture_path, metavar="FILE", help="sheet of pictures (PICTURE-explained.png)"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--init-image", type=Path, metavar="FILE", help="the init image of the picture, if it had one")
    command.add_argument("--mask", type=Path, metavar="FILE", help="the mask of the picture, if it had one")
    command.add_argument("--guide", metavar="MODEL", help="the guide of the picture, if its name does not find it")
    command.add_argument("--cache", type=Path, metavar="FOLDER", help="folder that keeps the decoded pictures")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.cli.run.explain import run

    return run(args)
