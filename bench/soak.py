"""Kill training at random moments, again and again: it must end exactly as if it had been left alone.

    python bench/soak.py [--kills 200] [--images 800] [--minutes 30] [--seed 0]

Trains a tiny model on drawn pictures, saving about every `--interval` seconds, once undisturbed and then with `kill -9`
at random moments until all kills are spent, run after run. Exit code 1 if a final weight, average or optimizer state
differs in one bit, a checkpoint is left that does not verify, or more than one interval of work is lost. After
`--minutes` no more are killed, and the last run goes on to its end. Processes are forked from one that has imported
everything, so that time is spent on training. Unix only.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from tintype.config import PRESETS, Config, NetConfig, SampleConfig, TextConfig
from tintype.model import checkpoint
from tintype.shapes.write import write_shapes
from tintype.training.core.trainer import StepReport, Trainer
from tintype.training.run import TrainRequest, train
from tintype.training.setup import prepare

PARTS = ("model", "model_long", "weights", "optimizer")
NANO = PRESETS["nano"]
LONGEST = 8  # intervals that a process is left alone among its steps
IN_STEPS = 0.8  # share of the kills that come after the first step of a process


def tiny(resolution: int | None = None) -> Config:
    """What takes the place of the preset nano."""
    config = NANO(16)
    return replace(
        config,
        net=NetConfig(resolution=16, patch=8, width=32, depth=1, heads=2, stem_width=16, stem_depth=1, text_depth=1),
        text=TextConfig(encoder="learned", max_tokens=16),
        train=replace(config.train, batch_size=4, micro_batch=2, sample_minutes=1e9),
        sample=SampleConfig(steps=2),
    )


@dataclass
class Attempt:
    """One process that trains, and how far it was when."""

    killed: bool
    lasted: float
    passed: list[tuple[float, int]]  # seconds, images seen


def attempt(request: TrainRequest, kill_after: float | None, *, in_steps: bool = False) -> Attempt:
    """Train in a process of its own, and kill that after some seconds unless it has ended. Raises RuntimeError.

    in_steps: the seconds count from its first step, else from its start.
    """
    reading, writing = os.pipe()
    start = time.monotonic()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _train(request, writing)
    os.close(writing)
    if kill_after is not None:
        if in_steps:
            select.select([reading], [], [])  # the first step has been told, or the process has ended
        time.sleep(kill_after)
        os.kill(process, signal.SIGKILL)
        killed_at = time.monotonic()
    with os.fdopen(reading) as file:
        lines = file.read().splitlines()
    _, status = os.waitpid(process, 0)
    seconds = (time.monotonic() if kill_after is None else killed_at) - start
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"training failed with {code}")
    rows = [line.split() for line in lines if line.endswith(";")]
    return Attempt(code != 0, seconds, [(float(moment) - start, int(images_seen)) for moment, images_seen, _ in rows])


def _train(request: TrainRequest, writing: int) -> None:
    """The whole of a forked process."""
    code = 1
    try:
        steps = Trainer.steps

        def reporting(self: Trainer, until: int) -> Iterator[StepReport]:
            for report in steps(self, until):
                os.write(writing, f"{time.monotonic()} {report.images_seen} ;\n".encode())
                yield report

        Trainer.steps = reporting  # type: ignore[method-assign]
        train(request, Console(file=io.StringIO()))
        code = 0
    finally:
        os._exit(code)


def digest(run: Path) -> str:
    """sha256 of every weight, average and moment at the end of a run."""
    newest = checkpoint.latest(run)
    if newest is None:
        raise RuntimeError(f"{run} has no whole checkpoint")
    sha256 = hashlib.sha256()
    for part, tensors in checkpoint.load_parts(newest, PARTS).items():
        for name in sorted(tensors):
            sha256.update(f"{part}/{name}".encode())
            sha256.update(tensors[name].numpy().tobytes())
    return sha256.hexdigest()


def lost_seconds(before: Attempt, run: Path, batch_size: int) -> float:
    """How much work of a killed process is not in the newest checkpoint, in seconds."""
    newest = checkpoint.latest(run)
    saved = int(newest.name.removeprefix("step-")) * batch_size if newest is not None else 0
    reached = [when for when, seen in before.passed if seen > saved]
    return before.lasted - min(reached) if reached else 0.0


def soak(folder: Path, kills: int, images: int, interval: float, minutes: float, seed: int) -> dict[str, object]:
    """Run it all in `folder`; returns what was found."""
    start = time.monotonic()
    PRESETS["nano"] = tiny
    prepare.bf16_is_faster = lambda device: False  # takes time, and the same answer serves all
    write_shapes(folder / "data", 40, seed=1)
    base = TrainRequest(
        data=folder / "data",
        out=folder / "straight",
        images=images,
        device="cpu",
        save_minutes=interval / 60,
        cache=folder / "cache",
    )
    undisturbed = attempt(base, None)
    first_step, last_step = undisturbed.passed[0][0], undisturbed.passed[-1][0]
    among_steps = min(0.6 * (last_step - first_step), LONGEST * interval)
    expected, rng = digest(base.out), random.Random(seed)
    kills_left, num_runs, worst, damaged, differing, before_first = kills, 0, 0.0, 0, 0, 0
    while kills_left and time.monotonic() - start < 60 * minutes:
        num_runs += 1
        request = replace(base, out=folder / f"killed-{num_runs}")
        is_finished = False
        while not is_finished:
            in_steps = rng.random() < IN_STEPS
            limit = among_steps if in_steps else first_step
            is_over = kills_left == 0 or time.monotonic() - start > 60 * minutes
            result = attempt(request, None if is_over else rng.uniform(0.0, limit), in_steps=in_steps)
            is_finished = not result.killed
            kills_left -= result.killed
            damaged += sum(not checkpoint.is_whole(saved) for saved in checkpoint.checkpoints(request.out))
            before_first += result.killed and not result.passed
            worst = max(worst, lost_seconds(result, request.out, 4) if result.killed else 0.0)
        differing += digest(request.out) != expected
    return {
        "kills": kills - kills_left,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "runs": num_runs,
        "seconds_of_a_run": round(undisturbed.lasted, 2),
        "killed_before_the_first_step": before_first,
        "runs_that_ended_differently": differing,
        "damaged_checkpoints": damaged,
        "most_seconds_lost": round(worst, 3),
        "interval_seconds": interval,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill training at random moments.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--interval", type=float, default=0.3, help="seconds between checkpoints")
    parser.add_argument("--slack", type=float, default=2.0, help="seconds that a save itself may take")
    parser.add_argument("--minutes", type=float, default=30, help="of killing, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = soak(Path(folder), options.kills, options.images, options.interval, options.minutes, options.seed)
    print(json.dumps(result))
    lost = float(str(result["most_seconds_lost"])) > options.interval + options.slack
    sys.exit(bool(result["runs_that_ended_differently"] or result["damaged_checkpoints"] or lost))


if __name__ == "__main__":
    main()
