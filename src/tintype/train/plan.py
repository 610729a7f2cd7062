"""How long a run is: from a wall-clock budget to a number of images, by measuring real steps."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass

from tintype.config import TrainConfig
from tintype.train.trainer import Trainer

MEASURE_SECONDS = 12.0  # at most
MEASURE_SHARE = 0.05  # of the budget, at most
SAVE_BYTES_PER_SECOND = 100e6
RESERVE = 0.03  # of the budget: for what cannot be foreseen
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured on this machine, for this model and data."""

    images_per_second: float
    sample_seconds: float  # a grid of samples and the held-out error
    save_seconds: float  # a checkpoint


def measure(trainer: Trainer, minutes: float, sample: Callable[[], object]) -> Speed:
    """Train for some seconds and call `sample` once; the trainer is of no further use. At least two steps are timed."""
    limit = min(MEASURE_SECONDS, MEASURE_SHARE * minutes * _MINUTE)
    steps = trainer.steps(2**62)
    next(steps)  # the first one also allocates
    start = time.perf_counter()
    before = trainer.images_seen
    num_steps = 0
    while num_steps < 2 or time.perf_counter() - start < limit:
        next(steps)
        num_steps += 1
    seconds = time.perf_counter() - start
    sample_start = time.perf_counter()
    sample()
    size = sum(tensor.nbytes for part in trainer.tensors().values() for tensor in part.values())
    return Speed(
        images_per_second=(trainer.images_seen - before) / seconds,
        sample_seconds=time.perf_counter() - sample_start,
        save_seconds=size / SAVE_BYTES_PER_SECOND,
    )


def images_within(seconds: float, speed: Speed, train: TrainConfig) -> int:
    """How many images fit into `seconds`, with the pauses for samples and checkpoints: whole batches, at least one."""
    num_samples = 1 + seconds // (train.sample_minutes * _MINUTE)
    num_saves = 1 + seconds // (train.save_minutes * _MINUTE)
    pauses = num_samples * speed.sample_seconds + num_saves * speed.save_seconds
    batches = ((1 - RESERVE) * seconds - pauses) * speed.images_per_second / train.batch_size
    return max(1, int(batches)) * train.batch_size


def expected_seconds(images: int, speed: Speed, train: TrainConfig) -> float:
    """How long `images` take, with the pauses."""
    seconds = images / speed.images_per_second
    samples = 1 + seconds // (train.sample_minutes * _MINUTE)
    saves = 1 + seconds // (train.save_minutes * _MINUTE)
    return seconds + samples * speed.sample_seconds + saves * speed.save_seconds


def clock_after(seconds: float) -> str:
    """The local time of day `seconds` from now, with the date if that is not today."""
    now = datetime.datetime.now()
    then = now + datetime.timedelta(seconds=seconds)
    return then.strftime("%H:%M:%S" if then.date() == now.date() else "%Y-%m-%d %H:%M")


def duration(seconds: float) -> str:
    """47 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / _MINUTE)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
