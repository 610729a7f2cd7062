"""`tintype train`."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tintype.cli import options
from tintype.cli.options import DATA, minutes, number, whole
from tintype.config import PRESETS
from tintype.pipeline.limits import MAX_SEED, MAX_SIDE

if TYPE_CHECKING:
    from tintype.training.setup.request import TrainRequest

AGAIN = "The same command again goes on with a run that was stopped. Ctrl-C saves first."


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = AGAIN
    command.add_argument("data", metavar="DATA", help=DATA)
    length = length_options(command)
    length.add_argument("--steps", type=whole(1, 10**10), metavar="N", help="optimizer steps")
    command.add_argument("--preset", choices=("auto", *PRESETS), default="auto", help="size of the model (auto)")
    command.add_argument(
        "--resolution", type=whole(8, MAX_SIDE), metavar="PX", help="side of the pictures (the preset's)"
    )
    command.add_argument("--from", dest="from_model", metavar="MODEL", help="start from the weights of this model")
    command.add_argument(
        "--text", type=options.text_encoder, metavar="ENCODER", help="minilm (default), learned or hf:NAME-OR-FOLDER"
    )
    run_options(command)
    command.set_defaults(run=run)


def length_options(command: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Where a run writes and how long it is; of the group that is returned one option can be given."""
    command.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run, and of the model")
    length = command.add_mutually_exclusive_group()
    length.add_argument("--time", type=minutes, metavar="T", help="take about this long: 90s, 30m, 2h, 1h30m")
    length.add_argument("--images", type=whole(1, 10**13), metavar="N", help="images to show, repeats counted")
    return length


def run_options(command: argparse.ArgumentParser) -> None:
    """What every command that trains has."""
    command.add_argument("--batch-size", type=whole(1, 2**20), metavar="N", help="images per step")
    command.add_argument("--micro-batch", type=whole(1, 2**20), metavar="N", help="images at once, if memory is short")
    command.add_argument("--lr", type=number(1e-8, 1), metavar="X", help="learning rate")
    command.add_argument("--seed", type=whole(0, MAX_SEED), metavar="N", help="0 to 2^63 - 1")
    command.add_argument("--resume", default="auto", metavar="auto|never|PATH", help="go on with a run (default: auto)")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    command.add_argument("--save-every", type=minutes, metavar="T", help="time between checkpoints (5m)")
    command.add_argument("--sample-every", type=minutes, metavar="T", help="time between samples (5m)")
    command.add_argument("--keep", type=whole(1, 10**6), metavar="N", help="newest checkpoints to keep (3)")
    command.add_argument("--keep-every", type=whole(0, 10**13), metavar="N", help="keep one every N images for good")
    command.add_argument("--tensorboard", action="store_true", help="also write curves to RUN/tensorboard")
    command.add_argument("--shard", action="store_true", help="under torchrun: share the model out over all processes")
    command.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    command.add_argument("--exclude", type=Path, metavar="LIST", help="file of keys or sha256 never to train on")
    command.add_argument("--dedupe", action="store_true", default=None, help="leave out exact copies but the first")
    command.add_argument("--cache", type=Path, metavar="FOLDER", help="keep the training copy here, for several runs")
    command.add_argument("--stream", action="store_true", help="no training copy: decode whenever a picture is shown")
    options.data_options(command)


def run(args: argparse.Namespace) -> int:
    preset = None if args.preset == "auto" else args.preset
    request = replace(request_of(args), steps=args.steps, preset=preset, resolution=args.resolution)
    return train_as(replace(request, text=args.text, from_model=args.from_model))


def request_of(args: argparse.Namespace) -> TrainRequest:
    """What `length_options` and `run_options` say."""
    from tintype.training.setup.request import DataOptions, TrainRequest

    return TrainRequest(
        data=args.data,
        out=args.out,
        minutes=args.time,
        images=args.images,
        batch_size=args.batch_size,
        micro_batch=args.micro_batch,
        lr=args.lr,
        seed=args.seed,
        resume=args.resume,
        device=args.device,
        save_minutes=args.save_every,
        sample_minutes=args.sample_every,
        keep_last=args.keep,
        keep_every=args.keep_every,
        tensorboard=args.tensorboard,
        dry_run=args.dry_run,
        shard=args.shard,
        data_options=DataOptions(
            crop=args.crop,
            alpha_color=args.alpha_color,
            min_size=args.min_size,
            max_aspect=args.max_aspect,
            animations=args.animations,
            caption_encoding=args.caption_encoding,
            no_caption=args.no_caption,
            dedupe=args.dedupe,
        ),
        exclude=args.exclude,
        cache=args.cache or _cache(),
        stream=args.stream,
    )


def train_as(request: TrainRequest) -> int:
    """Train, and print the folder."""
    from rich.console import Console

    from tintype.training.run import train

    folder = train(request, Console(stderr=not request.dry_run))
    if not request.dry_run and os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
        print(folder)
    return 0


def _cache() -> Path | None:
    """Where the environment says that training copies are kept."""
    folder = os.environ.get("TINTYPE_CACHE")
    return Path(folder) if folder else None
