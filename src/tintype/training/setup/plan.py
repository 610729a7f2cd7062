"""The plan of a run: number of images for a time budget, from the measured speed of real steps, and needs."""

from __future__ import annotations

import datetime
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tintype.config import Config, TrainConfig
from tintype.training.console import duration, size
from tintype.training.core.trainer import Trainer
from tintype.training.core.weights import snapshot
from tintype.training.parallel.world import World
from tintype.training.setup.disk import most_checkpoints

MEASURE_SECONDS = 30.0  # at most
MEASURE_SHARE = 0.05  # of the budget, at most
WARM_UP_STEPS = 20  # at most, until everything is compiled
SAVE_BYTES_PER_SECOND = 100e6
RESERVE = 0.03  # of the budget: safety margin
FIXED_UP_TO = 32  # batches as small as this were chosen by trials on CPUs, and stay
ENOUGH_STEPS = 1000  # of larger ones
SMALLEST_SIDE = 32  # pixels, of --resolution auto
MIN_IMAGES = 30_000  # that a model of more than 32 pixels must see; fewer give blots at 128 pixels (dev/LOG.md)
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Speed:
    """Speed and memory measured on this machine, for this model and data."""

    images_per_second: float
    validation_seconds: float  # a grid of samples and the held-out errors
    save_seconds: float  # how long a checkpoint pauses training
    last_save_seconds: float = 0.0  # to write the last checkpoint and the model to the disk
    longer_seconds: float = 0.0  # to measure the errors of the longer average, at the end
    checkpoint_bytes: int = 0
    model_bytes: int = 0  # of the finished model
    memory_bytes: int = 0  # peak of this process or its GPU; 0: unknown
    num_weights: int = 0
    micro_batch: int = 0  # that fitted into memory; 0: the whole batch
    compile_seconds: float = 0.0  # until the first steps were through, compiler included; 0: not compiled
    full_size_per_second: float = 0.0  # images at full size, where most are of half the size; 0: all are of full size

    def mean_images_per_second(self, train: TrainConfig) -> float:
        """Over a whole run, of which the last images, while the learning rate falls, are of full size."""
        if not self.full_size_per_second:
            return self.images_per_second
        late = train.decay_fraction
        return 1 / ((1 - late) / self.images_per_second + late / self.full_size_per_second)


def measure(trainer: Trainer, minutes: float, validate: Callable[[], float], world: World | None = None) -> Speed:
    """Train for some seconds, at least two steps, and call `validate` once, in all processes.

    validate: returns how long the errors of the longer average would take, in seconds. Do not use the trainer
    afterwards.
    """
    world = world or World()
    reset_peak_memory()
    limit = min(MEASURE_SECONDS, MEASURE_SHARE * minutes * _MINUTE)
    full_size_per_second = 0.0
    compile_seconds = warm_up(trainer) if trainer.num_graphs is not None else 0.0
    if trainer.config.train.half_size:
        limit /= 2
        trainer.images_seen = trainer.config.train.images  # where all samples are of full size
        full_size_per_second = _images_per_second(trainer, limit, world)
        trainer.images_seen = 0
    images_per_second = _images_per_second(trainer, limit, world)
    stepped = time.perf_counter()
    longer_seconds = validate()
    world.barrier()
    validated = time.perf_counter()
    snapshot(trainer.tensors())
    copied = time.perf_counter()
    return Speed(
        images_per_second=images_per_second,
        validation_seconds=validated - stepped,
        save_seconds=copied - validated,
        last_save_seconds=(trainer.checkpoint_bytes + trainer.model_bytes) / SAVE_BYTES_PER_SECOND,
        longer_seconds=longer_seconds,
        checkpoint_bytes=trainer.checkpoint_bytes,
        model_bytes=trainer.model_bytes,
        memory_bytes=peak_memory(),
        num_weights=sum(weight.numel() for weight in trainer.denoiser.parameters()),
        micro_batch=trainer.micro_batch,
        compile_seconds=compile_seconds,
        full_size_per_second=full_size_per_second,
    )


def warm_up(trainer: Trainer) -> float:
    """Train until two steps in a row needed no new graph, all sizes included. Returns the seconds that took."""
    start, quiet = time.perf_counter(), 0
    steps = trainer.steps(2**62)
    for _ in range(WARM_UP_STEPS):
        before = trainer.num_graphs
        next(steps)
        quiet = quiet + 1 if trainer.num_graphs == before else 0
        if quiet == 2:
            break
    trainer.images_seen = 0
    return time.perf_counter() - start


def _images_per_second(trainer: Trainer, seconds: float, world: World) -> float:
    """The speed from now on, of at least two steps."""
    steps = trainer.steps(2**62)
    next(steps)  # the first one also allocates
    start, before = time.perf_counter(), trainer.images_seen
    num_steps = 0
    while world.any([num_steps < 2 or (world.is_main and time.perf_counter() - start < seconds)])[0]:
        next(steps)
        num_steps += 1
    return (trainer.images_seen - before) / (time.perf_counter() - start)


def reset_peak_memory() -> None:
    """Count the peak of torch on a GPU from now on: before, other sizes and precisions were tried."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> int:
    """Peak memory in bytes: of torch on a GPU since `reset_peak_memory`, else of this process; 0 if unknown."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def images_within(seconds: float, speed: Speed, train: TrainConfig, images_seen: int = 0) -> int:
    """The length of a run whose rest fits into `seconds` with pauses for validation and checkpoints, in images.

    images_seen: before that time, in which the learning rate has not begun to fall. The rest is in whole batches.
    """
    time_left = (1 - RESERVE) * seconds - _pauses(seconds, speed, train)
    rate = speed.mean_images_per_second(train)
    rest = time_left * rate + images_seen * (rate / speed.images_per_second - 1)
    return images_seen + max(1, int(rest / train.batch_size)) * train.batch_size


def expected_seconds(images: int, speed: Speed, train: TrainConfig) -> float:
    """The time for `images`, pauses included."""
    seconds = images / speed.mean_images_per_second(train)
    return seconds + _pauses(seconds, speed, train)


def finish_seconds(speed: Speed) -> float:
    """The time from the last step to the finished model: both averages are measured, the state and model written."""
    return speed.validation_seconds + speed.longer_seconds + speed.save_seconds + speed.last_save_seconds


def _pauses(seconds: float, speed: Speed, train: TrainConfig) -> float:
    validations = seconds // (train.sample_minutes * _MINUTE)
    saves = seconds // (train.save_minutes * _MINUTE)
    return validations * speed.validation_seconds + saves * speed.save_seconds + finish_seconds(speed)


def plan_lines(
    config: Config, num_images: int, speed: Speed | None, data_bytes: int, num_processes: int, epoch_length: int = 0
) -> list[str]:
    """The plan of a run in words: length, time, disk and memory.

    num_images: to train on. data_bytes: size of the cache. epoch_length: samples an epoch; 0: each picture once.
    """
    train = config.train
    line = f"plan: {train.images:,} images in batches of {train.batch_size}"
    if train.micro_batch:
        line += f", {train.micro_batch} at a time"
    if num_processes > 1:
        line += f", by {num_processes} processes"
    line += f", {train.images / num_images:.1f} times each"
    if epoch_length not in (0, num_images):
        line += " on average, by their weights"
    few = few_steps(train)
    if speed is None:
        return [line, *few]
    seconds = expected_seconds(train.images, speed, train)
    line += (
        f"; at {speed.mean_images_per_second(train):.1f} images/s that takes {duration(seconds)}, "
        f"until {clock_after(seconds)} if the machine stays as fast"
    )
    disk = disk_bytes(train, speed, seconds, data_bytes)
    needs = f"needs: {size(disk)} of disk ({size(speed.checkpoint_bytes)} a checkpoint, {size(data_bytes)} of data)"
    if speed.memory_bytes:  # a copy of all that is saved exists while it is written
        needs += f", {size(speed.memory_bytes)} of memory"
    return [line, f"{needs}; {epoch_length or num_images:,} samples an epoch", *few]


def few_steps(train: TrainConfig) -> list[str]:
    """A note if a run takes so few steps that smaller batches would teach more."""
    steps = train.images // train.batch_size
    if train.batch_size <= FIXED_UP_TO or steps >= ENOUGH_STEPS:
        return []
    smaller = max(FIXED_UP_TO, 1 << max(train.images // ENOUGH_STEPS, 1).bit_length() - 1)
    return [
        f"note: {steps:,} steps are few; with a smaller --batch-size, such as {smaller}, the same images teach more"
    ]


def disk_bytes(train: TrainConfig, speed: Speed, seconds: float, data_bytes: int) -> int:
    """What a run of `seconds` needs on the disk: its checkpoints, the model and the data."""
    return most_checkpoints(train, seconds) * speed.checkpoint_bytes + speed.model_bytes + data_bytes


def short_note(config: Config, speed: Speed | None) -> str:
    """A note for a run from scratch that ends before pictures of its size can be learned; "": it is long enough.

    Its time is counted in images of full size, since what is seen at half the size takes less of it.
    """
    side = config.net.resolution
    if speed is None or side <= SMALLEST_SIDE:
        return ""
    seconds = config.train.images / speed.mean_images_per_second(config.train)
    images = seconds * (speed.full_size_per_second or speed.images_per_second)
    if images >= MIN_IMAGES:
        return ""
    return (
        f"note: this is as long as {images:,.0f} images of {side} pixels take; below {MIN_IMAGES:,} pictures of that "
        "size tend to be blots: train longer, or give --resolution auto, which chooses a smaller one"
    )


def clock_after(seconds: float) -> str:
    """The local time `seconds` from now, with the date if that is not today."""
    now = datetime.datetime.now()
    then = now + datetime.timedelta(seconds=seconds)
    return then.strftime("%H:%M:%S" if then.date() == now.date() else "%Y-%m-%d %H:%M")
