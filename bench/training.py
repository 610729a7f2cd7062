"""What training costs besides forward, backward and optimizer; a save; a second process; how well `--time` is kept.

    python bench/training.py overhead [--images 960]     shares of a real run of the preset nano on drawn pictures
    python bench/training.py saves [--rounds 8]          steps with and without a save among them, in turns
    python bench/training.py processes [--rounds 8] [--bf16] [--batch-size N]
                                                         one process with all cores, two that share them, in turns
    python bench/training.py time [--minutes 20]         a run with that budget, and how long it took
    python bench/training.py time --run RUN              the same of a run trained with `--time` in one go

Each ratio is of times taken in one run, so that a machine that is shared slows both sides.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from train_speed import SyntheticData

from tintype.config import PRESETS
from tintype.model import checkpoint
from tintype.model.denoiser import Denoiser
from tintype.model.file_names import LOG
from tintype.shapes.write import write_shapes
from tintype.training.checkpoints.checkpointer import Checkpointer
from tintype.training.core.batches import Reader
from tintype.training.core.device import keep_memory
from tintype.training.core.ema import PowerEma
from tintype.training.core.gradient import Gradient
from tintype.training.core.optim import Optimizers
from tintype.training.core.trainer import Trainer
from tintype.training.monitor.log import Display, Log
from tintype.training.monitor.log_rows import read_log
from tintype.training.parallel.world import init_processes, no_sync_unless_last
from tintype.training.run import TrainRequest, train
from tintype.training.session import Session

STEPS = 10  # of a round
TURN = 4  # steps of a round of `processes`, where turns that are near each other in time compare best


def timed(spent: dict[str, float], name: str, owner: type, method: str) -> None:
    """Add the time spent in a method to `spent[name]`."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def call(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(*args, **options)
        finally:
            spent[name] += time.perf_counter() - start

    setattr(owner, method, call)


def overhead(images: int) -> dict[str, float]:
    """Shares of the time between the first and the last step, without looks and saves."""
    spent: dict[str, float] = defaultdict(float)
    for name, owner, method in (
        ("forward and backward", Gradient, "_backward"),
        ("optimizer", Optimizers, "step"),
        ("averages", PowerEma, "update"),
        ("data", Reader, "__call__"),
        ("log", Log, "step"),
        ("display", Display, "step"),
        ("between steps", Session, "_after_step"),
        ("all", Session, "_steps"),
    ):
        timed(spent, name, owner, method)
    with tempfile.TemporaryDirectory() as folder:
        write_shapes(Path(folder) / "data", 500)
        request = TrainRequest(
            data=Path(folder) / "data", out=Path(folder) / "run", images=images, text="learned", sample_minutes=1e6
        )
        train(request, Console(stderr=True))
    total = spent.pop("all")
    shares = {name: seconds / total for name, seconds in spent.items()}
    work = shares["forward and backward"] + shares["optimizer"]
    return {**shares, "overhead": 1 - work, "images_per_second": images / total}


def nano_trainer(batch_size: int | None = None, **more: Any) -> Trainer:
    torch.manual_seed(0)
    config = PRESETS["nano"]()
    config = replace(config, train=replace(config.train, batch_size=batch_size or config.train.batch_size))
    return Trainer(Denoiser(config), SyntheticData(config), config, torch.device("cpu"), **more)


def seconds_of(num_steps: int, steps: Any) -> float:
    start = time.perf_counter()
    for _ in range(num_steps):
        next(steps)
    return time.perf_counter() - start


def saves(rounds: int) -> dict[str, float]:
    """How much longer STEPS steps take with a save that begins before them, as a share of the time between saves."""
    trainer = nano_trainer()
    steps = trainer.steps(2**62)
    seconds_of(3, steps)
    plain, saving, held_up, writing = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        saver = Checkpointer(Path(folder), trainer.config.train)
        for number in range(rounds):
            plain.append(seconds_of(STEPS, steps))
            start = time.perf_counter()
            step_folder = checkpoint.step_folder(Path(folder), number)
            saver.save(step_folder, trainer.tensors(), {"state.json": json.dumps(trainer.counts())})
            held_up.append(time.perf_counter() - start)
            seconds_of(STEPS, steps)
            saver.wait()
            saving.append(time.perf_counter() - start)
            writing.append(sum(path.stat().st_size for path in step_folder.iterdir()))
        saver.close()
    cost = statistics.median(saving) - statistics.median(plain)
    return {
        "seconds_of_steps": statistics.median(plain),
        "seconds_with_a_save": statistics.median(saving),
        "seconds_held_up": statistics.median(held_up),
        "checkpoint_mib": statistics.median(writing) / 2**20,
        "cost_of_a_save_seconds": cost,
        "share_of_training": cost / (60 * trainer.config.train.save_minutes),
    }


def worker(batch_size: int | None, bf16: bool) -> None:
    """One process of `processes`: for every line on its input it makes TURN steps, and says what they took.

    A line `apart` leaves the sum over processes out.
    """
    keep_memory()
    spent: dict[str, float] = defaultdict(float)
    timed(spent, "optimizer", Optimizers, "step")
    timed(spent, "optimizer", PowerEma, "update")
    with init_processes(torch.device("cpu")) as world:
        trainer = nano_trainer(batch_size, world=world, bf16=bf16)
        steps = trainer.steps(2**62)
        seconds_of(3, steps)
        print("ready", flush=True)
        for line in sys.stdin:
            spent.clear()
            world.barrier()
            used = time.process_time()
            with no_sync_unless_last(trainer._gradient.module, line.strip() != "apart"):
                seconds = seconds_of(TURN, steps)
            row = {"seconds": seconds, "cpu": time.process_time() - used, "optimizer": spent["optimizer"]}
            print(json.dumps(row), flush=True)


class Workers:
    """Processes that train together, each with its share of the cores, and only when told."""

    def __init__(self, num: int, cores: int, options: list[str]) -> None:
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            port = reserved.getsockname()[1]
        self.processes = []
        for rank in range(num):
            rank_variables = {"RANK": rank, "WORLD_SIZE": num, "LOCAL_RANK": rank}
            shared_variables = {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "OMP_NUM_THREADS": max(1, cores // num),
            }
            environment = {
                **os.environ,
                **{name: str(value) for name, value in {**rank_variables, **shared_variables}.items()},
            }
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, __file__, "worker", *options],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
            )

    def read(self) -> list[str]:
        """A line of each."""
        return [process.stdout.readline() for process in self.processes if process.stdout is not None]

    def steps(self, mode: str) -> dict[str, float]:
        """What TURN steps took: the seconds of the slowest, and the processor time of all."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{mode}\n")
            process.stdin.flush()
        rows = [json.loads(line) for line in self.read()]
        return {
            "seconds": max(row["seconds"] for row in rows),
            "cpu": sum(row["cpu"] for row in rows),
            "optimizer": max(row["optimizer"] for row in rows),
        }

    def close(self) -> None:
        for process in self.processes:
            process.communicate()


def processes(rounds: int, batch_size: int | None, bf16: bool) -> dict[str, float]:
    """One process that has all cores, and two that have half each, of the same global batch; turn by turn.

    Ratios are medians of the ratios of the rounds. A loss is in seconds of a step of two processes: that of the sum
    over processes, and that of the optimizer and averages, which both compute.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    options = [*(["--bf16"] if bf16 else []), *(["--batch-size", str(batch_size)] if batch_size else [])]
    single, pair = Workers(1, cores, options), Workers(2, cores, options)
    single.read(), pair.read()  # ready
    rows = []
    for number in range(rounds):
        turns = [("one", single, "together"), ("two", pair, "together"), ("apart", pair, "apart")]
        turn_times = {name: workers.steps(mode) for name, workers, mode in (turns if number % 2 else turns[::-1])}
        rows.append(turn_times)
    single.close(), pair.close()

    def median(value: Callable[[dict[str, dict[str, float]]], float]) -> float:
        return statistics.median(value(row) for row in rows)

    return {
        "cores": cores,
        "rounds": rounds,
        "step_of_one": median(lambda row: row["one"]["seconds"] / TURN),
        "step_of_two": median(lambda row: row["two"]["seconds"] / TURN),
        "ratio": median(lambda row: row["one"]["seconds"] / row["two"]["seconds"]),
        "ratio_without_the_sum": median(lambda row: row["one"]["seconds"] / row["apart"]["seconds"]),
        "lost_in_the_sum": median(lambda row: (row["two"]["seconds"] - row["apart"]["seconds"]) / TURN),
        "optimizer_of_one": median(lambda row: row["one"]["optimizer"] / TURN),
        "optimizer_of_two": median(lambda row: row["two"]["optimizer"] / TURN),
        "processor_time_of_one": median(lambda row: row["one"]["cpu"] / TURN),
        "processor_time_of_two": median(lambda row: row["two"]["cpu"] / TURN),
        "processor_time_without_the_sum": median(lambda row: row["apart"]["cpu"] / TURN),
    }


def kept_time(run: Path) -> dict[str, float]:
    """How well a run that was trained with `--time`, and not stopped on the way, kept to it: from its log."""
    rows = read_log(run / LOG)
    planned = [row["planned"] for row in rows if "planned" in row]
    ended = [row["ended"] for row in rows if "ended" in row]
    if not planned or not ended:
        sys.exit(f"{run} was not trained with --time from start to end in one go")
    requested, seconds = planned[-1]["asked_seconds"], ended[-1]["seconds"]
    return {
        "asked_seconds": requested,
        "expected_seconds": planned[-1]["seconds"],
        "seconds": seconds,
        "share_of_what_was_asked": seconds / requested,
    }


def time_budget(minutes: float) -> dict[str, float]:
    """Train the preset nano on drawn pictures for `minutes`."""
    with tempfile.TemporaryDirectory() as folder:
        write_shapes(Path(folder) / "data", 2000)
        out = Path(folder) / "run"
        train(TrainRequest(data=Path(folder) / "data", out=out, minutes=minutes, text="learned"), Console(stderr=True))
        return kept_time(out)


def main() -> None:
    parser = argparse.ArgumentParser(description="What training costs besides the arithmetic.")
    parser.add_argument("what", choices=("overhead", "saves", "processes", "time", "worker"))
    parser.add_argument("--images", type=int, default=960)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--bf16", action="store_true", help="of `processes`: compute in bfloat16")
    parser.add_argument("--batch-size", type=int, help="of `processes`: pictures of a step (those of the preset)")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.what == "worker":
        worker(options.batch_size, options.bf16)
        return
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "overhead": lambda: overhead(options.images),
        "saves": lambda: saves(options.rounds),
        "processes": lambda: processes(options.rounds, options.batch_size, options.bf16),
        "time": lambda: kept_time(options.run) if options.run else time_budget(options.minutes),
    }
    result = measures[options.what]()
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:32} {value:.4g}")


if __name__ == "__main__":
    main()
