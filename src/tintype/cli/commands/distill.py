"""`tintype distill`."""

from __future__ import annotations

import argparse
from dataclasses import replace

from tintype.cli.commands import train
from tintype.cli.options import DATA, number, whole
from tintype.pipeline.limits import MAX_GUIDANCE


def add_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Distill a trained model into one that generates in a few network evaluations (--steps) instead of dozens, "
        "with guidance built in. The new model is an ordinary one, with these settings as its defaults."
    )
    command.epilog = train.RESUMES
    command.add_argument("model", metavar="MODEL", help="the teacher: a shipped name, a model folder or a run folder")
    command.add_argument("--data", required=True, metavar="DATA", help=DATA)
    train.length_options(command)
    command.add_argument(
        "--steps", dest="distill_steps", type=whole(1, 16), metavar="N", help="evaluations per picture: 1 to 16 (4)"
    )
    command.add_argument(
        "--guidance", type=number(0, MAX_GUIDANCE), metavar="W", help="guidance of the teacher to build in (its own)"
    )
    train.run_options(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.training.setup.request import DistillRequest

    distill = DistillRequest(steps=args.distill_steps, guidance=args.guidance)
    return train.train_as(replace(train.request_of(args), from_model=args.model, distill=distill))
