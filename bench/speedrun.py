"""How well a model of drawn shapes follows captions after a given time, from scratch: the rows of dev/LEADERBOARD.md.

    python bench/speedrun.py [--recipe tintype] [--minutes 60] [--seeds 0,1,2] [--num 200] [--threads 2]
                             [--data FOLDER] [--out FOLDER]

The time to 0.90 is the shortest run whose accuracy on new captions is 0.90 or more. A run is `tintype train --time`, in
a process of its own, and all it does counts: reading the pictures, measuring, saving. Then `bench/shapes_accuracy.py`
judges it, which does not count.

`--recipe tintype,diffusers,diffusers@1e-3,smalldiffusion` also runs those of other libraries, at their own learning
rate or another: `bench/peer_training.py`, same pictures, same threads, same judge, one after the other for each seed.
If Tintype's is named before them, each gets as long as that really took, or `--peer-times` as long. Theirs are judged
on `--peer-num` captions with `--peer-steps` and each of `--peer-guidance`, and the best counts. Nothing else should use
the machine; how fast it is, as `tintype doctor` finds it, is printed first, since processors differ by several times.
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
BENCH = Path(__file__).parent


class Recipe(NamedTuple):
    """Whose recipe, and at which learning rate; None is its own."""

    name: str
    lr: float | None = None

    def __str__(self) -> str:
        return self.name if self.lr is None else f"{self.name}@{self.lr:g}"


class Row(NamedTuple):
    """One run on the board."""

    recipe: Recipe
    seed: int
    minutes: float  # from the start of the command to its end
    images: int
    new: float  # share of new captions with everything right
    held_out: float


def recipes(text: str) -> list[Recipe]:
    """ "tintype,diffusers@1e-3" -> what to run. Raises ArgumentTypeError."""
    parsed = []
    for part in text.split(","):
        name, at, lr = part.partition("@")
        if name not in ("tintype", "diffusers", "smalldiffusion"):
            raise argparse.ArgumentTypeError(f"a recipe is tintype, diffusers or smalldiffusion, not {name!r}")
        if at and name == "tintype":
            raise argparse.ArgumentTypeError("tintype is run as it is, without a learning rate of its own")
        try:
            recipe = Recipe(name, float(lr) if at else None)
        except ValueError:
            raise argparse.ArgumentTypeError(f"a learning rate is a number, not {lr!r}") from None
        if recipe in parsed:
            raise argparse.ArgumentTypeError(f"{recipe} is there twice")
        parsed.append(recipe)
    return parsed


def written(data: Path, num: int) -> Path:
    """The folder of drawn pictures, written first if it is not there; that takes no part in the time."""
    if not (data / "metadata.jsonl").is_file():
        subprocess.run([sys.executable, "-m", "tintype", "shapes", str(data), "--num", str(num)], check=True)
    return data


def training(recipe: Recipe, data: Path, out: Path, seed: int, minutes: float) -> list[str]:
    """The command that trains."""
    if recipe.name == "tintype":
        command = ["-m", "tintype", "train", str(data), "--out", str(out), "--text", "learned", "--seed", str(seed)]
        return [*command, "--time", f"{minutes:g}m"]
    command = [str(BENCH / "peer_training.py"), "train", str(data), "--out", str(out), "--recipe", recipe.name]
    lr = [] if recipe.lr is None else ["--lr", f"{recipe.lr:g}"]
    return [*command, *lr, "--minutes", f"{minutes:g}", "--seed", str(seed)]


def judging(recipe: Recipe, data: Path, out: Path, options: argparse.Namespace) -> list[str]:
    """The command that judges, and prints JSON."""
    if recipe.name == "tintype":
        command = [str(BENCH / "shapes_accuracy.py"), "--model", str(out)]
        steps, guidance, num = options.steps, str(options.guidance), options.num
    else:
        command = [str(BENCH / "peer_training.py"), "judge", str(out)]
        steps, guidance, num = options.peer_steps, options.peer_guidance, options.peer_num or options.num
    sampling = ["--steps", str(steps), "--guidance", guidance]
    return [*command, "--seen", str(data), "--num", str(num), *sampling, "--json"]


def environment_of(threads: int) -> dict[str, str]:
    """For commands that compute with so many threads, without progress bars of other libraries."""
    return os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}


def print_machine(threads: int) -> None:
    """The lines of `tintype doctor` about the processor."""
    command = [sys.executable, "-m", "tintype", "doctor"]
    output = subprocess.run(command, env=environment_of(threads), stdout=subprocess.PIPE, text=True, check=False)
    print("\n".join(line for line in output.stdout.splitlines() if line.startswith(("CPU", "matrix products on cpu"))))


def run(recipe: Recipe, data: Path, out: Path, seed: int, minutes: float, options: argparse.Namespace) -> Row:
    """Train for the minutes given, then judge what came of it."""
    environment = environment_of(options.threads)
    start = time.perf_counter()
    command = training(recipe, data, out, seed, minutes)
    subprocess.run([sys.executable, *command], check=True, env=environment)
    minutes_taken = (time.perf_counter() - start) / 60
    command = judging(recipe, data, out, options)
    output = subprocess.run([sys.executable, *command], check=True, env=environment, stdout=subprocess.PIPE)
    judged = json.loads(output.stdout)
    if "noise_error" in judged:
        errors = "  ".join(f"{level}: {error:.4f}" for level, error in judged["noise_error"].items())
        print(f"{recipe}: best with guidance {judged['guidance']:g}; error of the noise by level  {errors}")
    new, held_out = (judged["shares"][split]["all"]["share"] for split in ("new", "held out"))
    return Row(recipe, seed, minutes_taken, images_seen(out), new, held_out)


def images_seen(out: Path) -> int:
    """How many images a run saw: by the last row of its log, or what a peer's run says of itself."""
    log = out / "log.jsonl"
    last = log.read_text(encoding="utf-8").splitlines()[-1] if log.is_file() else (out / "run.json").read_text()
    return int(json.loads(last)["images_seen"])


def spread(shares: list[float]) -> str:
    """Mean and, of several runs, least and most, in percent."""
    mean = f"{100 * statistics.mean(shares):.1f} %"
    return mean if len(shares) == 1 else f"{mean} ({100 * min(shares):.1f} to {100 * max(shares):.1f})"


def board_row(rows: list[Row], threads: int) -> str:
    """The row of dev/LEADERBOARD.md for the runs of one recipe."""
    minutes = statistics.mean(row.minutes for row in rows)
    images = statistics.mean(row.images for row in rows)
    new, held_out = spread([row.new for row in rows]), spread([row.held_out for row in rows])
    seeds = ", ".join(str(row.seed) for row in rows)
    return f"| {rows[0].recipe} | {threads} | {minutes:.1f} | {images:,.0f} | {new} | {held_out} | {seeds} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Caption accuracy after a given time of training from scratch.")
    parser.add_argument("--recipe", type=recipes, default="tintype", help="such as tintype,diffusers,diffusers@1e-3")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seeds", default="0,1,2", help="one run each")
    parser.add_argument("--num", type=int, default=200, help="captions in each of the two sets")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--peer-num", type=int, help="captions of other libraries, by default as many as --num")
    parser.add_argument("--peer-steps", type=int, default=20, help="steps of other libraries' samplers")
    parser.add_argument("--peer-guidance", default="3,7.5", help="scales of which the best counts, for other libraries")
    parser.add_argument("--peer-times", type=float, default=1.0, help="how many times as long other libraries train")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--data", type=Path, help="a folder of `tintype shapes`; by default one is made")
    parser.add_argument("--out", type=Path, help="where the runs stay; by default they are thrown away")
    options = parser.parse_args()

    print_machine(options.threads)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        data = written(options.data or Path(scratch) / "shapes", options.pictures)
        out = options.out or Path(scratch)
        for seed in map(int, options.seeds.split(",")):
            peer_minutes = options.minutes * options.peer_times
            for recipe in options.recipe:
                is_tintype = recipe.name == "tintype"
                name = f"seed-{seed}" if is_tintype else f"{recipe}-seed-{seed}"
                row = run(recipe, data, out / name, seed, options.minutes if is_tintype else peer_minutes, options)
                rows.append(row)
                if is_tintype:
                    peer_minutes = max(options.minutes, row.minutes) * options.peer_times
                print(
                    f"{recipe} seed {seed}  {row.minutes:.1f} min  {row.images:,} images  new {row.new:.1%}", end="  "
                )
                print(f"held out {row.held_out:.1%}", flush=True)
    for recipe in options.recipe:
        print(board_row([row for row in rows if row.recipe == recipe], options.threads))


if __name__ == "__main__":
    main()
