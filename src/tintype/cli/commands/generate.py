"""`tintype generate` and `tintype redo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tintype.cli import options
from tintype.cli.options import DEFAULT_MODEL, number, whole
from tintype.pipeline.request import MAX_GUIDANCE, MAX_SEED, MAX_SIDE, MAX_STEPS, MIN_STRENGTH, STRENGTH

# Known without importing torch.
SAMPLERS = (
    *("unipc", "dpmpp_2m", "deis_2", "deis_3", "deis_4", "euler", "ddim", "heun", "reference"),
    *("ddpm", "euler_ancestral", "dpmpp_2m_sde", "heun_churn"),
)
GRIDS = ("logistic", "log_snr", "karras", "flow")


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = "Image j has seed N and index j, and is the same picture when made alone. Unset: the model's own."
    command.add_argument("captions", nargs="*", metavar="CAPTION", help="what to make")
    command.add_argument("--prompts-file", type=Path, metavar="FILE", help="more captions, one a line, UTF-8")
    command.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME|FOLDER", help="shipped name, model or run folder (shapes)"
    )
    command.add_argument(
        "--num-images", type=whole(1, 10_000), metavar="N", help="per caption (1; 8 on the way to another)"
    )
    command.add_argument("--seed", type=whole(0, MAX_SEED), default=0, metavar="N", help="of the starting noise (0)")
    command.add_argument("--steps", type=whole(1, MAX_STEPS), metavar="N", help="steps from noise to picture")
    command.add_argument(
        "--guidance", type=number(0, MAX_GUIDANCE), metavar="W", help="how strictly to follow the caption; 1 is plainly"
    )
    command.add_argument(
        "--guidance-interval", type=options.interval, metavar="LOW,HIGH", help="noise levels at which guidance acts"
    )
    command.add_argument("--negative", metavar="TEXT", help="what to steer away from")
    command.add_argument("--sampler", choices=SAMPLERS, help="how to step")
    command.add_argument("--grid", choices=GRIDS, help="how noise levels are spaced")
    command.add_argument("--width", type=whole(1, MAX_SIDE), metavar="PX")
    command.add_argument("--height", type=whole(1, MAX_SIDE), metavar="PX")
    command.add_argument(
        "--strength", type=number(MIN_STRENGTH, 1), metavar="S", help=f"noise on the init image, to 1 ({STRENGTH:g})"
    )
    _making_options(command)
    command.add_argument(
        "--outpaint", type=options.margins, metavar="N|L,T,R,B", help="paint so many pixels around the init image"
    )
    command.add_argument(
        "--invert",
        metavar="CAPTION",
        help="lead the init image, of this caption, back to its noise and start there",
    )
    command.add_argument("--to-caption", metavar="TEXT", help="go from CAPTION to TEXT over the images")
    command.add_argument("--to-seed", type=whole(0, MAX_SEED), metavar="N", help="go from --seed to N over the images")
    command.add_argument(
        "--vary", type=number(0, 1), metavar="D", help="images after the first vary it: 0 not at all, 1 anew"
    )
    command.add_argument(
        "--strip", type=options.sheet_file, metavar="FILE", help="also all images side by side (.png) or in turn (.gif)"
    )
    command.add_argument(
        "--save-steps", type=options.sheet_file, metavar="FILE", help="show every step: .png sheet, .gif or .webp"
    )
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tintype.cli.run.generate import generate

    return generate(args)


def add_redo_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("picture", type=Path, metavar="PICTURE", help="a PNG that Tintype made")
    command.add_argument("--model", metavar="NAME|FOLDER", help="the model it was made with, if not found by its name")
    _making_options(command)
    command.set_defaults(run=run_redo)


def run_redo(args: argparse.Namespace) -> int:
    from tintype.cli.run.generate import redo

    return redo(args)


def _making_options(command: argparse.ArgumentParser) -> None:
    """Options that generate and redo share."""
    command.add_argument("--init-image", type=Path, metavar="FILE", help="start from this picture, with noise on it")
    command.add_argument("--mask", type=Path, metavar="FILE", help="repaint the init image where this is white")
    command.add_argument(
        "--guide", metavar="MODEL", help="guide away from what this weaker model makes: an early checkpoint"
    )
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    command.add_argument(
        "--no-preview", dest="preview", action="store_false", help="show a bar only, where a terminal can show pictures"
    )
    command.add_argument(
        "--output",
        type=options.picture_place,
        metavar="FILE|FOLDER",
        help="a .png, replaced if it is there, or a folder; several pictures in FILE become FILE-0, FILE-1, ... "
        "(default: names from captions in the current folder, where nothing is ever replaced)",
    )
