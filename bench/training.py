"""What training costs besides forward, backward and optimizer; what a save costs; what a second process brings.

    python bench/training.py overhead [--images 960]     shares of a real run of the preset nano on drawn pictures
    python bench/training.py saves [--rounds 8]          steps with and without a save among them, in turns
    python bench/training.py processes [--rounds 5]      one process with all cores, two that share them, in turns

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
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from train_speed import MadeUp

from tintype import checkpoint
from tintype.config import PRESETS
from tintype.data.shapes import write_shapes
from tintype.denoiser import Denoiser
from tintype.train.distributed import joined, quiet
from tintype.train.ema import PowerEma
from tintype.train.log import Display, Log
from tintype.train.machine import keep_memory
from tintype.train.optim import Optimizers
from tintype.train.run import TrainRequest, train
from tintype.train.samples import Reader
from tintype.train.saving import Saver
from tintype.train.session import Session
from tintype.train.trainer import Trainer

STEPS = 10  # of a round


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
        ("forward and backward", Trainer, "_backward"),
        ("optimizer", Optimizers, "step"),
        ("averages", PowerEma, "update"),
        ("data", Reader, "__call__"),
        ("log", Log, "step"),
        ("display", Display, "step"),
        ("between steps", Session, "_between_steps"),
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


def nano_trainer(**more: Any) -> Trainer:
    torch.manual_seed(0)
    config = PRESETS["nano"]()
    return Trainer(Denoiser(config), MadeUp(config), config, torch.device("cpu"), **more)


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
        saver = Saver(Path(folder), trainer.config.train)
        for number in range(rounds):
            plain.append(seconds_of(STEPS, steps))
            start = time.perf_counter()
            place = checkpoint.step_folder(Path(folder), number)
            saver.save(place, trainer.tensors(), {"state.json": json.dumps(trainer.counts())})
            held_up.append(time.perf_counter() - start)
            seconds_of(STEPS, steps)
            saver.wait()
            saving.append(time.perf_counter() - start)
            writing.append(sum(path.stat().st_size for path in place.iterdir()))
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


def worker(rounds: int) -> None:
    """One process of `processes`: images per second, with and without the sum over processes."""
    keep_memory()
    with joined(torch.device("cpu")) as world:
        trainer = nano_trainer(world=world)
        steps = trainer.steps(2**62)
        seconds_of(3, steps)
        together, apart = [], []
        for _ in range(rounds):
            world.wait()
            together.append(STEPS * trainer.config.train.batch_size / seconds_of(STEPS, steps))
            if world.size > 1:
                with quiet(trainer._module, True):
                    apart.append(STEPS * trainer.config.train.batch_size / seconds_of(STEPS, steps))
        if world.is_main:
            print(json.dumps({"together": together, "apart": apart}))


def start_workers(num: int, rounds: int, cores: int) -> dict[str, list[float]]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    processes = []
    for rank in range(num):
        more = {"RANK": rank, "WORLD_SIZE": num, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        threads = {"OMP_NUM_THREADS": max(1, cores // num)}
        environment = {**os.environ, **{name: str(value) for name, value in {**more, **threads}.items()}}
        command = [sys.executable, __file__, "worker", "--rounds", str(rounds)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
    said = [process.communicate()[0] for process in processes]
    found: dict[str, list[float]] = json.loads(said[0])
    return found


def processes(rounds: int) -> dict[str, float]:
    """Images per second of one process that has all cores, and of two that have half each; turn by turn."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    one: list[float] = []
    two: list[float] = []
    apart: list[float] = []
    for _ in range(2):
        one += start_workers(1, rounds, cores)["together"]
        found = start_workers(2, rounds, cores)
        two, apart = two + found["together"], apart + found["apart"]
    one_rate, two_rate, apart_rate = (statistics.median(rates) for rates in (one, two, apart))
    return {
        "cores": cores,
        "one_process": one_rate,
        "two_processes": two_rate,
        "two_processes_without_the_sum": apart_rate,
        "ratio": two_rate / one_rate,
        "ratio_without_the_sum": apart_rate / one_rate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What training costs besides the arithmetic.")
    parser.add_argument("what", choices=("overhead", "saves", "processes", "worker"))
    parser.add_argument("--images", type=int, default=960)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.what == "worker":
        worker(options.rounds)
        return
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "overhead": lambda: overhead(options.images),
        "saves": lambda: saves(options.rounds),
        "processes": lambda: processes(options.rounds),
    }
    result = measures[options.what]()
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:32} {value:.4g}")


if __name__ == "__main__":
    main()
