"""`tintype train`."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tintype.cli import options
from tintype.cli.options import DATA, minutes, number, whole
from tintype.config import PRESETS
from tintype.pipeline.limits import MAX_SEED, MAX_SIDE

if TYPE_CHECKING:
    from tintype.training.setup.request import TrainRequest

RESUMES = "Ctrl-C saves a checkpoint; the same command resumes a run that was stopped."


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = RESUMES
    command.add_argument("data", metavar="DATA", help=DATA)
    length = length_options(command)
    length.add_argument("--steps", type=whole(1, 10**10), metavar="N", help="optimizer steps")
    command.add_argument("--preset", choices=("auto", *PRESETS), default="auto", help="size of the model (auto)")
    command.add_argument(
        "--resolution",
        type=_resolution,
        metavar="PX",
        help="side of the pictures; auto: the largest that pictures and time allow (the preset's)",
    )
    command.add_argument("--from", dest="from_model", metavar="MODEL", help="start from the weights of this model")
    command.add_argument(
        "--text",
        type=options.text_encoder,
        metavar="ENCODER",
        help="minilm (knows English words), learned (reads every sign), hf:NAME-OR-FOLDER, or auto: minilm if it can "
        "read the captions, else learned (auto)",
    )
    command.add_argument(
        "--regularize",
        action="store_true",
        help="for few pictures: dropout, and pictures that are changed, as suits how often each is shown",
    )
    run_options(command)
    command.set_defaults(run=run)


def length_options(command: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """The options for the folder and the length of a run; returns the group of lengths, which exclude each other."""
    command.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run, and of the model")
    length = command.add_mutually_exclusive_group()
    length.add_argument("--time", dest="minutes", type=minutes, metavar="T", help="wall-clock: 90s, 30m, 2h, 1h30m")
    length.add_argument("--images", type=whole(1, 10**13), metavar="N", help="images to train on, repeats counted")
    return length


def run_options(command: argparse.ArgumentParser) -> None:
    """The options of every command that trains."""
    add = command.add_argument
    add("--batch-size", type=whole(1, 2**20), metavar="N", help="images per optimizer step")
    add("--micro-batch", type=whole(1, 2**20), metavar="N", help="images computed at once, to save memory")
    add("--lr", type=number(1e-8, 1), metavar="X", help="learning rate")
    add("--seed", type=whole(0, MAX_SEED), metavar="N", help="of weights, order and noise: 0 to 2^63 - 1")
    add("--resume", default="auto", metavar="auto|never|PATH", help="auto: the run in RUN; PATH: a checkpoint (auto)")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    add("--threads", type=whole(1, 1024), metavar="N", help="of a CPU (all, fewer while other programs run)")
    add("--deterministic", action="store_true", help="the same bits each time, on a GPU too, where that is slower")
    add("--save-every", dest="save_minutes", type=minutes, metavar="T", help="time between checkpoints (5m)")
    add("--sample-every", dest="sample_minutes", type=minutes, metavar="T", help="time between validations (5m)")
    add("--keep", dest="keep_last", type=whole(1, 10**6), metavar="N", help="newest checkpoints to keep (3)")
    add("--keep-every", type=whole(0, 10**13), metavar="N", help="also keep one checkpoint every N images")
    add("--tensorboard", action="store_true", help="also write curves to RUN/tensorboard")
    add(
        "--compile",
        type=_switch,
        metavar="auto|on|off",
        help="compile the network with torch.compile; auto: on a GPU, if the run is long enough to repay it (auto)",
    )
    add(
        "--stop",
        dest="stop_early",
        action=argparse.BooleanOptionalAction,
        help="end once the run would only learn its pictures by heart (new runs do)",
    )
    add("--shard", action="store_true", help="under torchrun: shard the model over all processes")
    add("--dry-run", action="store_true", help="print the plan and stop")
    add("--plan", type=Path, metavar="FILE", help="also write the plan to FILE, as JSON")
    add("--exclude", type=Path, metavar="LIST", help="file of keys or sha256 never to train on")
    add("--dedupe", action="store_true", default=None, help="keep only the first of exact copies")
    add("--cache", type=Path, metavar="FOLDER", help="folder for caches that runs share")
    add("--stream", action="store_true", help="no cache: decode pictures at every use")
    options.data_options(command)


def run(args: argparse.Namespace) -> int:
    request = request_of(args)
    is_auto = args.resolution == "auto"
    return train_as(
        replace(
            request,
            preset=None if request.preset == "auto" else request.preset,
            resolution=None if is_auto else request.resolution,
            auto_resolution=is_auto,
        )
    )


def _switch(text: str) -> bool | None:
    if text not in ("auto", "on", "off"):
        raise argparse.ArgumentTypeError("must be auto, on or off")
    return None if text == "auto" else text == "on"


def _resolution(text: str) -> int | str:
    return text if text == "auto" else whole(8, MAX_SIDE)(text)


def request_of(args: argparse.Namespace) -> TrainRequest:
    """The request that the options make: each is stored under the name of a field."""
    from tintype.training.setup.request import TrainRequest

    names = {entry.name for entry in fields(TrainRequest)}
    request = TrainRequest(**{name: value for name, value in vars(args).items() if name in names})
    return replace(request, data_options=options.given_data_options(args), cache=options.cache_folder(args))


def train_as(request: TrainRequest) -> int:
    """Train, and print the run folder."""
    from rich.console import Console

    from tintype.printable import print_path
    from tintype.training.run import train

    folder = train(request, Console(stderr=not request.dry_run))
    if not request.dry_run and os.environ.get("RANK", "0") == "0":  # one of several processes prints
        print_path(folder)
    return 0
