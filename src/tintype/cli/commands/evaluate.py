"""`tintype evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tintype.cli.options import whole
from tintype.pipeline.limits import MAX_SEED


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = "Two models are compared in one report. Without --data, a run is evaluated on its own cache."
    command.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="one or two of: shipped name, model folder, run folder, hf:OWNER/NAME",
    )
    command.add_argument("--data", metavar="DATA", help="the captioned pictures that the model was trained on")
    command.add_argument(
        "--output",
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder of report.html and results.json (MODEL/evaluation)",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--tune", action="store_true", help="only compare guidance scales and numbers of steps")
    command.add_argument("--save", action="store_true", help="write the best guidance and steps into the model")
    command.add_argument(
        "--num", type=whole(8, 10**6), metavar="N", help="training pictures to measure, and as many unseen ones (192)"
    )
    command.add_argument(
        "--samples", type=whole(4, 10**6), metavar="N", help="samples for captions of unseen pictures (192)"
    )
    command.add_argument(
        "--copies",
        type=whole(4, 10**6),
        metavar="N",
        help="samples for captions of training pictures, to search for copies (--samples, or 1000 without it)",
    )
    command.add_argument(
        "--captions",
        "--asked",
        type=whole(8, 10**5),
        metavar="N",
        help="shapes captions, new ones and as many held out (96)",
    )
    command.add_argument(
        "--features",
        metavar="NAME",
        help="features to compare images in: scattering (default), efficientnet, inception, hf:NAME-OR-FOLDER",
    )
    command.add_argument("--seed", type=whole(0, MAX_SEED), metavar="N", help="seed of all random choices (0)")
    command.add_argument("--cache", type=Path, metavar="FOLDER", help="folder that keeps the decoded pictures")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.cli.run.evaluate import run

    return run(args)
