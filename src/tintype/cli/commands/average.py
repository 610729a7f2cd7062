"""`tintype average`: a model whose weights are averaged over another length than the one that was chosen."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tintype.cli.options import number


def add_options(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "The average of width W remembers about the last W of the training. Runs keep two averages, of widths 0.05 "
        "and 0.1; from these and all checkpoints that are left, others are mixed."
    )
    command.add_argument("run_folder", type=Path, metavar="RUN", help="a run that has ended or goes on")
    command.add_argument("--width", type=number(1e-3, 0.25), required=True, metavar="W", help="0.02 to 0.2, say")
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of the new model")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the model folder and print its path."""
    from tintype.errors import CheckpointError
    from tintype.model import checkpoint
    from tintype.training.checkpoints.posthoc_ema import SLACK, averaged
    from tintype.training.checkpoints.run_folder import TOKENIZER

    out: Path = args.out
    if out.exists() and any(out.iterdir()):
        raise CheckpointError(f"{out} is not empty; choose another --out")
    weights, config, distance = averaged(args.run_folder, args.width)
    if distance > SLACK:
        print(
            f"note: only {100 * (1 - distance):.0f}% of this average can be made from the checkpoints that are left; "
            "train with --keep-every for more of them",
            file=sys.stderr,
        )
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = args.run_folder / TOKENIZER
    if tokenizer.is_file():
        checkpoint.write_text(out / TOKENIZER, tokenizer.read_text(encoding="utf-8"))
    checkpoint.write_text(out / "config.json", config.to_json())
    checkpoint.write_tensors(out / "model.safetensors", weights)
    print(out)
    return 0
