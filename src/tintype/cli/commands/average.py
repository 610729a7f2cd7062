"""`tintype average`: a model whose weights are averaged over another width, after training."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tintype.cli.options import number


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "An average of width W covers about the last W of the training. Every checkpoint stores two, of widths "
        "0.05 and 0.1; this command mixes those of all checkpoints in the run into one of another width."
    )
    command.add_argument("run_folder", type=Path, metavar="RUN", help="run folder, finished or not")
    command.add_argument(
        "--width", type=number(1e-3, 0.25), required=True, metavar="W", help="of the average, 0.02 to 0.2"
    )
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for the new model")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the model folder and print its path."""
    from tintype.errors import CheckpointError
    from tintype.model import checkpoint, manifest
    from tintype.model.file_names import CONFIG, TOKENIZER, WEIGHTS
    from tintype.printable import print_line, print_path
    from tintype.training.checkpoints.posthoc_ema import MAX_DISTANCE, averaged

    out: Path = args.out
    if out.exists() and any(out.iterdir()):
        raise CheckpointError(f"{out} is not empty; choose another --out")
    weights, config, distance, images_seen = averaged(args.run_folder, args.width)
    if distance > MAX_DISTANCE:
        print_line(
            f"note: the checkpoints in this run give only {100 * (1 - distance):.0f}% of this average; train with "
            "--keep-every to keep more of them",
            sys.stderr,
        )
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = args.run_folder / TOKENIZER
    if tokenizer.is_file():
        checkpoint.write_text(out / TOKENIZER, tokenizer.read_text(encoding="utf-8"))
    checkpoint.write_text(out / CONFIG, config.to_json())
    checkpoint.write_tensors(out / WEIGHTS, weights)
    manifest.write(out, images_seen)
    print_path(out)
    return 0
