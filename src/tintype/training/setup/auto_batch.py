"""The automatic batch size of a run with `--time`: the one that learns most in that time on this device.

A step of b images takes t0 + b * t1 seconds: t0 for its launches and the optimizer, t1 for each image. What D images in
batches of b teach is about D / (b + B) steps' worth (McCandlish et al. 2018, arXiv 1812.06162, eq. 2.11): below the
critical batch size B all images count, above it they are repeated. B grows with the root of D (Zhang et al. 2024, arXiv
2410.21676). So a small network on a GPU, where t0 is all, gets large batches, and one that fills the device small ones.
"""

from __future__ import annotations

import gc
import math
import time
from dataclasses import dataclass, replace

import torch

from tintype.config import Config, TextConfig
from tintype.model.denoiser import Denoiser
from tintype.training.core.trainer import Trainer
from tintype.training.setup.auto_preset import SyntheticData

SMALLEST = 16
LARGEST_TRIED = 128  # of a preset with small batches: above it the rate that fits does not grow with the root
CRITICAL = 0.5  # B / sqrt(D): by trials (dev/LOG.md)
_TRIALS = {"cpu": (4, 16)}  # sizes of the batches that are timed
_GPU_TRIALS = (32, 256)
_SECONDS = 2.0  # of steps of one size, at least two


@dataclass(frozen=True, slots=True)
class StepTime:
    """How long a step takes: `overhead` seconds, and `per_image` seconds for each image."""

    overhead: float
    per_image: float

    @classmethod
    def through(cls, small: tuple[int, float], large: tuple[int, float]) -> StepTime:
        """From two batch sizes and the seconds that their steps took."""
        per_image = max((large[1] - small[1]) / (large[0] - small[0]), 1e-9)
        return cls(max(small[1] - small[0] * per_image, 0.0), per_image)

    def __str__(self) -> str:
        return f"a step takes {1000 * self.overhead:.1f} ms, and {1000 * self.per_image:.3f} ms a picture"

    def seconds(self, batch_size: int) -> float:
        return self.overhead + batch_size * self.per_image


def best_batch_size(seconds: float, step: StepTime, largest: int, smallest: int = SMALLEST) -> int:
    """The power of two, or `largest`, that learns most in `seconds`; at most `largest`."""
    size, sizes = smallest, [largest]
    while (size := 1 << (size - 1).bit_length()) < largest:
        sizes.append(size)
        size += 1
    return max(sizes, key=lambda size: _learned(seconds, step, size))


def _learned(seconds: float, step: StepTime, batch_size: int) -> float:
    """What a run in batches of this size teaches, in steps of a batch far above the critical one."""
    images = seconds / step.seconds(batch_size) * batch_size
    return images / (batch_size + CRITICAL * math.sqrt(images))


def lr_for(config: Config, batch_size: int) -> float:
    """The learning rate of a preset at another batch size: it grows with its root, by trials (dev/LOG.md)."""
    return float(f"{config.train.lr * math.sqrt(batch_size / config.train.batch_size):.2g}")


def measure_steps(config: Config, device: torch.device, *, bf16: bool) -> StepTime:
    """Time steps of two batch sizes of a model of `config` on made-up pictures."""
    small, large = ((size, _step_seconds(config, size, device, bf16)) for size in _TRIALS.get(device.type, _GPU_TRIALS))
    return StepTime.through(small, large)


def _step_seconds(config: Config, batch_size: int, device: torch.device, bf16: bool) -> float:
    train = replace(config.train, batch_size=batch_size, micro_batch=0)
    config = replace(config, text=TextConfig(), train=train)
    trainer = Trainer(Denoiser(config), SyntheticData(config), config, device, bf16=bf16)
    steps = trainer.steps(2**62)
    next(steps)  # the first one also allocates
    start, num_steps = time.perf_counter(), 0
    while num_steps < 2 or time.perf_counter() - start < _SECONDS:
        next(steps)  # its report holds numbers, so the device has finished
        num_steps += 1
    took = (time.perf_counter() - start) / num_steps
    del trainer, steps
    gc.collect()
    return took
