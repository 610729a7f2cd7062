"""Training while another program takes a core: speed with the number of threads that `tintype train` chooses.

    python bench/busy_machine.py [--seconds 40] [--programs 1] [--float32]

Real steps of the preset nano in one process: one thread alone, all threads alone, then beside `--programs` programs
that only count, then alone again. `settled` is the speed of the second half of a phase, after the number of threads was
chosen; `ratio` is that over one thread alone. All threads without a choice are the last line.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from train_speed import SyntheticData

from tintype.config import Config
from tintype.model.denoiser import Denoiser
from tintype.training.core.device import keep_memory
from tintype.training.core.threads import ThreadTuner
from tintype.training.core.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Speed:
    """Images a second in a phase."""

    overall: float
    settled: float
    threads: int


@contextmanager
def other_programs(num: int) -> Iterator[None]:
    """Programs that take a core each."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(num)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def train(trainer: Trainer, seconds: float, tuner: ThreadTuner | None) -> Speed:
    """Train for about `seconds`; with a tuner its threads, without one those that are set."""
    batch = trainer.config.train.batch_size
    steps = trainer.steps(until=sys.maxsize)
    times = []
    start = time.perf_counter()
    while sum(times) < seconds:
        next(steps)
        times.append(time.perf_counter() - start - sum(times))
        if tuner is not None and tuner.after_step(times[-1]):
            torch.set_num_threads(tuner.threads)
    second_half = times[next(n for n in range(len(times)) if sum(times[: n + 1]) >= seconds / 2) :]
    return Speed(
        overall=batch * len(times) / sum(times),
        settled=batch * len(second_half) / sum(second_half),
        threads=torch.get_num_threads(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of training on a busy machine.")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each phase")
    parser.add_argument("--programs", type=int, default=1)
    parser.add_argument("--float32", action="store_true")
    options = parser.parse_args()
    keep_memory()
    config = Config()
    trainer = Trainer(Denoiser(config), SyntheticData(config), config, torch.device("cpu"), bf16=not options.float32)
    most = torch.get_num_threads()
    train(trainer, 5, None)  # warms up
    torch.set_num_threads(1)
    alone = train(trainer, options.seconds / 2, None)
    torch.set_num_threads(most)
    tuner = ThreadTuner(most)
    torch.set_num_threads(tuner.threads)
    rows = {"one thread, alone": alone, "chosen, alone": train(trainer, options.seconds / 2, tuner)}
    with other_programs(options.programs):
        rows[f"chosen, beside {options.programs}"] = train(trainer, options.seconds, tuner)
    rows["chosen, alone again"] = train(trainer, options.seconds, tuner)
    torch.set_num_threads(most)
    with other_programs(options.programs):
        rows[f"{most} threads, beside {options.programs}"] = train(trainer, options.seconds, None)
    print(f"{'':24} {'overall':>8} {'settled':>8} {'ratio':>6} threads at the end")
    for name, speed in rows.items():
        print(
            f"{name:24} {speed.overall:8.1f} {speed.settled:8.1f} {speed.settled / alone.settled:6.2f} {speed.threads}"
        )


if __name__ == "__main__":
    main()
