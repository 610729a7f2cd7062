"""How good a model of drawn shapes is after a given time, from scratch: the rows of dev/LEADERBOARD.md.

    python bench/speedrun.py [--minutes 60] [--seeds 0,1,2] [--num 200] [--threads 2] [--data FOLDER] [--out FOLDER]

The time to 0.90 is the shortest run whose accuracy on new captions is 0.90 or more. A run is `tintype train --time`, in
a process of its own, and all it does counts: reading the pictures, measuring, saving. Then `bench/shapes_accuracy.py`
judges it, which does not count. Runs go one after another; nothing else should use the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

PICTURES = 80_000  # in the training folder


class Row(NamedTuple):
    """One run on the board."""

    seed: int
    minutes: float  # from the start of the command to its end
    images: int
    new: float  # share of new captions with everything right
    held_out: float


def written(data: Path, num: int) -> Path:
    """The folder of drawn pictures, written first if it is not there; that takes no part in the time."""
    if not (data / "metadata.jsonl").is_file():
        subprocess.run([sys.executable, "-m", "tintype", "shapes", str(data), "--num", str(num)], check=True)
    return data


def run(data: Path, out: Path, seed: int, options: argparse.Namespace) -> Row:
    """Train for the time given, then judge what came of it."""
    threads = {"OMP_NUM_THREADS": str(options.threads), "MKL_NUM_THREADS": str(options.threads)}
    environment = os.environ | threads
    train = ["-m", "tintype", "train", str(data), "--out", str(out), "--text", "learned", "--seed", str(seed)]
    start = time.perf_counter()
    subprocess.run([sys.executable, *train, "--time", f"{options.minutes:g}m"], check=True, env=environment)
    minutes = (time.perf_counter() - start) / 60
    judge = [str(Path(__file__).with_name("shapes_accuracy.py")), "--model", str(out), "--seen", str(data), "--json"]
    settings = ["--num", str(options.num), "--steps", str(options.steps), "--guidance", str(options.guidance)]
    said = subprocess.run([sys.executable, *judge, *settings], check=True, env=environment, stdout=subprocess.PIPE)
    shares = json.loads(said.stdout)["shares"]
    last = json.loads((out / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return Row(seed, minutes, last["images_seen"], shares["new"]["all"]["share"], shares["held out"]["all"]["share"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Caption accuracy after a given time of training from scratch.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seeds", default="0,1,2", help="one run each")
    parser.add_argument("--num", type=int, default=200, help="captions in each of the two sets")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--data", type=Path, help="a folder of `tintype shapes`; by default one is made")
    parser.add_argument("--out", type=Path, help="where the runs stay; by default they are thrown away")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        data = written(options.data or Path(scratch) / "shapes", options.pictures)
        out = options.out or Path(scratch)
        rows = []
        for seed in map(int, options.seeds.split(",")):
            row = run(data, out / f"seed-{seed}", seed, options)
            rows.append(row)
            print(f"seed {row.seed}  {row.minutes:.1f} min  {row.images:,} images  new {row.new:.1%}", end="  ")
            print(f"held out {row.held_out:.1%}", flush=True)
    for name in ("new", "held_out"):
        shares = [getattr(row, name) for row in rows]
        print(f"{name}: mean {statistics.mean(shares):.1%}, from {min(shares):.1%} to {max(shares):.1%}")


if __name__ == "__main__":
    main()
