"""`tintype tokens`."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from tintype.cli import options
from tintype.cli.commands.train import RESUMES
from tintype.cli.options import DATA, minutes, number, whole
from tintype.pipeline.limits import MAX_SEED, MAX_SIDE


def add_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Train a model that writes pictures token by token, to compare diffusion with: a codebook of small patches, "
        "learned from the pictures, and a causal transformer that writes them row by row (docs/contrast.md)."
    )
    command.epilog = RESUMES
    add = command.add_argument
    add("data", metavar="DATA", help=DATA)
    add("--out", type=Path, required=True, metavar="RUN", help="folder of the run, and of the model")
    add("--images", type=whole(1, 10**13), metavar="N", help="images to train on, repeats counted (224000)")
    add("--resolution", type=whole(8, MAX_SIDE), metavar="PX", help="side of the pictures (32)")
    add("--patch", type=whole(1, 64), metavar="PX", help="side of the square that a token stands for (4)")
    add("--codes", type=whole(2, 2**16), metavar="N", help="different tokens (4096)")
    add(
        "--text",
        type=options.text_encoder,
        metavar="ENCODER",
        help="minilm, learned, hf:NAME-OR-FOLDER or auto, as in tintype train (auto)",
    )
    add("--batch-size", type=whole(1, 2**20), metavar="N", help="images per optimizer step (32)")
    add("--micro-batch", type=whole(1, 2**20), metavar="N", help="images computed at once, to save memory")
    add("--lr", type=number(1e-8, 1), metavar="X", help="learning rate")
    add("--seed", type=whole(0, MAX_SEED), metavar="N", help="of weights, order and codebook")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    add("--threads", type=whole(1, 1024), metavar="N", help="of a CPU (all)")
    add("--save-every", dest="save_minutes", type=minutes, metavar="T", help="time between checkpoints (5m)")
    add("--sample-every", dest="sample_minutes", type=minutes, metavar="T", help="time between validations (5m)")
    add("--keep", dest="keep_last", type=whole(1, 10**6), metavar="N", help="newest checkpoints to keep (3)")
    add("--keep-every", type=whole(0, 10**13), metavar="N", help="also keep one checkpoint every N images")
    add("--cache", type=Path, metavar="FOLDER", help="folder for caches that runs share")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from tintype.printable import print_path
    from tintype.tokens.prepare import TokenRequest
    from tintype.tokens.run import train_tokens

    names = {entry.name for entry in fields(TokenRequest)}
    values = {name: value for name, value in vars(args).items() if name in names}
    request = TokenRequest(**{**values, "cache": options.cache_folder(args)})
    print_path(train_tokens(request, Console(stderr=True)))
    return 0
