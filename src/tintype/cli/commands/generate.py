"""`tintype generate` and `tintype redo`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tintype.cli import options
from tintype.cli.options import DEFAULT_MODEL, number, whole
from tintype.diffusion.names import SAMPLERS, SCHEDULES
from tintype.pipeline.limits import (
    MAX_GUIDANCE,
    MAX_SEED,
    MAX_SIDE,
    MAX_STEPS,
    MIN_STRENGTH,
    OLDER_NAMES,
    PICTURE_SUFFIXES,
    STRENGTH,
)


def add_options(command: argparse.ArgumentParser) -> None:
    """Options whose `dest` is a name in `Options` reach `Pipeline.generate` under that name."""
    command.epilog = "Image j has seed N and index j, and is the same picture when made alone. Unset: the model's own."
    command.add_argument("captions", nargs="*", metavar="CAPTION", help="the picture to make")
    command.add_argument("--prompts-file", type=Path, metavar="FILE", help="more captions, one per line, UTF-8")
    command.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME|FOLDER",
        help="shipped name, model or run folder, also of a token model, or hf:OWNER/NAME, fetched from the Hugging "
        "Face Hub (shapes)",
    )
    command.add_argument(
        "-n",
        "--num-images",
        type=whole(1, 10_000),
        metavar="N",
        help="per caption (1; 8 for interpolations and variations)",
    )
    command.add_argument(
        "--seed", dest="seeds", type=whole(0, MAX_SEED), default=0, metavar="N", help="of the starting noise (0)"
    )
    command.add_argument("--steps", type=whole(1, MAX_STEPS), metavar="N", help="steps from noise to picture")
    command.add_argument(
        "--guidance",
        type=number(0, MAX_GUIDANCE),
        metavar="W",
        help="scale of guidance towards the caption; 1: none",
    )
    command.add_argument(
        "--guidance-interval", type=options.interval, metavar="LOW,HIGH", help="noise levels at which guidance acts"
    )
    command.add_argument(
        "--temperature", type=number(0, 4), metavar="T", help="of a token model: 1 as it is, 0 the likeliest each time"
    )
    command.add_argument(
        "--top-k", type=whole(0, 2**16), metavar="N", help="of a token model: draw from the N likeliest tokens; 0: all"
    )
    _renamed(command, "negative_prompt", metavar="TEXT", help="text to steer away from")
    command.add_argument(
        "--avoid-copies",
        action="store_true",
        default=None,
        help="steer away from training pictures where a picture comes too near to one",
    )
    command.add_argument("--sampler", choices=SAMPLERS, help="method of stepping")
    _renamed(command, "schedule", choices=SCHEDULES, help="spacing of the noise levels")
    command.add_argument(
        "--width", type=whole(1, MAX_SIDE), metavar="PX", help="of the picture (usual for the training pictures)"
    )
    command.add_argument("--height", type=whole(1, MAX_SIDE), metavar="PX", help="likewise")
    command.add_argument(
        "--enlarge",
        action="store_true",
        default=None,
        help="make the picture at the model's own size and enlarge it to --width and --height",
    )
    command.add_argument(
        "--strength",
        type=number(MIN_STRENGTH, 1),
        metavar="S",
        help=f"noise added to the init image: nearly 0 to 1 ({STRENGTH:g})",
    )
    command.add_argument("--init-image", type=Path, metavar="FILE", help="start from this picture, with noise added")
    command.add_argument("--mask", type=Path, metavar="FILE", help="repaint the init image where this is white")
    command.add_argument(
        "--outpaint", type=options.margins, metavar="N|L,T,R,B", help="pixels to paint around the init image"
    )
    _renamed(
        command,
        "source_caption",
        metavar="CAPTION",
        help="caption of the init image: invert it to noise and start from there",
    )
    command.add_argument("--to-caption", dest="captions_to", metavar="TEXT", help="interpolate from CAPTION to TEXT")
    command.add_argument(
        "--to-seed", dest="seeds_to", type=whole(0, MAX_SEED), metavar="N", help="interpolate from --seed to N"
    )
    command.add_argument(
        "--vary",
        dest="variation",
        type=number(0, 1),
        metavar="D",
        help="make variations of the first image: 0 the same, 1 unrelated",
    )
    command.add_argument(
        "--strip", type=options.sheet_file, metavar="FILE", help="also all images side by side (.png) or in turn (.gif)"
    )
    command.add_argument(
        "--save-steps", type=options.sheet_file, metavar="FILE", help="show every step: .png sheet, .gif or .webp"
    )
    _shared_options(command)
    command.set_defaults(run=run)


def _renamed(command: argparse.ArgumentParser, name: str, **settings: Any) -> None:
    """An option under its name and, not in the help, under its older one."""
    command.add_argument(f"--{name.replace('_', '-')}", dest=name, **settings)
    older = OLDER_NAMES[name]
    command.add_argument(f"--{older}", dest=older, **{**settings, "help": argparse.SUPPRESS})


def run(args: argparse.Namespace) -> int:
    from tintype.cli.run.generate import generate

    return generate(args)


def add_redo_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("picture", type=Path, metavar="PICTURE", help="a picture made by Tintype, with its receipt")
    command.add_argument("--model", metavar="NAME|FOLDER", help="the model that made it, if its name does not find it")
    command.add_argument("--init-image", type=Path, metavar="FILE", help="the init image of the picture, if it had one")
    command.add_argument("--mask", type=Path, metavar="FILE", help="the mask of the picture, if it had one")
    _shared_options(command)
    command.set_defaults(run=run_redo)


def run_redo(args: argparse.Namespace) -> int:
    from tintype.cli.run.generate import redo

    return redo(args)


def _shared_options(command: argparse.ArgumentParser) -> None:
    """Options of both generate and redo."""
    command.add_argument(
        "--guide", metavar="MODEL", help="a weaker model to guide away from, such as an early checkpoint"
    )
    command.add_argument(
        "--data",
        metavar="DATA",
        help="for --avoid-copies: the training pictures, if the model keeps no index of them",
    )
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    command.add_argument(
        "--no-cuda-graphs", dest="cuda_graphs", action="store_false", help="launch each kernel of the network by itself"
    )
    command.add_argument(
        "--no-preview", dest="preview", action="store_false", help="show only a progress bar, no picture"
    )
    command.add_argument(
        "--output",
        "--out",
        type=options.picture_path,
        metavar="FILE|FOLDER",
        help=f"a file ({', '.join(PICTURE_SUFFIXES)}), replaced if it exists, or a folder; several pictures become "
        "FILE-0, FILE-1, ... (default: the current folder, names from captions; an existing file is never replaced)",
    )
