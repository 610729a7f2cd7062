"""The automatic preset: the largest that can learn in the given time on this machine, measured on synthetic data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tintype.config import PRESETS, Config, TextConfig
from tintype.data.order import Order
from tintype.model.denoiser import Denoiser
from tintype.training.core.trainer import Trainer

SIZES = ("nano", "small", "base", "large")  # ascending
WEIGHTS_PER_IMAGE = 100  # a model needs at least one training image for this many weights
BF16_GAIN = 1.1  # steps must be this much faster in bfloat16 to be worth its rounding
_SECONDS = 5.0  # of a measurement
_MAX_TRIAL_BATCH = 16  # on a CPU, of the steps that compare precisions; launches hide the gain of small ones on a GPU
_TOKENS = 16  # of a caption


class SyntheticData:
    """Random pictures and text embeddings."""

    def __init__(self, config: Config) -> None:
        side = config.net.resolution
        self._picture = torch.randint(0, 256, (3, side, side), dtype=torch.uint8)
        self._state = torch.randn(_TOKENS, config.text.embedding_dim).half()

    def order(self, seed: int, indices: Tensor) -> Order:
        return Order(seed, len(indices))

    def by_shape(self, indices: Tensor) -> list[Tensor]:
        return [torch.arange(len(indices))]

    def pictures(self, indices: Tensor) -> Tensor:
        return self._picture.expand(len(indices), -1, -1, -1)

    def text_embeddings(self, indices: Tensor, choice: Tensor) -> list[Tensor]:
        return [self._state] * len(indices)

    def mirrorable(self, indices: Tensor) -> Tensor:
        return torch.ones(len(indices), dtype=torch.bool)

    def split(self, share: float) -> tuple[Tensor, Tensor]:
        return torch.arange(2**16), torch.arange(0)


def auto_preset(largest: str, seconds: float, resolution: int | None, device: torch.device, *, bf16: bool) -> Config:
    """The largest preset, up to `largest`, that can see enough images in `seconds`."""
    for name in reversed(SIZES[: SIZES.index(largest) + 1]):
        config = PRESETS[name]() if resolution is None else PRESETS[name](resolution)
        if name == SIZES[0]:
            break
        rate, num_weights = measure_preset(config, device, bf16)
        if rate * seconds * WEIGHTS_PER_IMAGE >= num_weights:
            break
    return config


def bf16_steps_are_faster(
    config: Config, device: torch.device, make_denoiser: Callable[[Config], Denoiser] = Denoiser
) -> bool:
    """Whether whole steps of a model of `config` are clearly faster in bfloat16; times both, alternating."""
    train = config.train
    if device.type == "cpu":
        train = replace(train, batch_size=min(train.batch_size, _MAX_TRIAL_BATCH), micro_batch=0)
    config = replace(config, text=TextConfig(), train=train)
    steps = []
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)  # its CPU time is not affected by other programs
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    try:
        for bf16 in (False, True):
            with torch.random.fork_rng(devices=[]):
                trainer = Trainer(make_denoiser(config), SyntheticData(config), config, device, bf16=bf16)
            steps.append(trainer.steps(2**62))
        float32, bfloat16 = _alternating(steps, clock)
    finally:
        torch.set_num_threads(threads)
    return BF16_GAIN * bfloat16 < float32


def _alternating(steps: Sequence[Iterator[object]], clock: Callable[[], float]) -> list[float]:
    """Seconds of the fastest step of each iterator; steps alternate for some seconds, at least once."""
    times: list[list[float]] = [[] for _ in steps]
    start = time.perf_counter()
    while not times[0] or time.perf_counter() - start < _SECONDS:
        for iterator, seconds in zip(steps, times, strict=True):
            before = clock()
            next(iterator)  # its report holds numbers, so the device has finished
            seconds.append(clock() - before)
    return [min(seconds) for seconds in times]


def measure_preset(config: Config, device: torch.device, bf16: bool) -> tuple[float, int]:
    """Images per second in training, and the number of weights."""
    config = replace(config, text=TextConfig())
    denoiser = Denoiser(config)
    trainer = Trainer(denoiser, SyntheticData(config), config, device, bf16=bf16)
    steps = trainer.steps(2**62)
    next(steps)
    start, before = time.perf_counter(), trainer.images_seen
    while time.perf_counter() - start < _SECONDS:
        next(steps)
    rate = (trainer.images_seen - before) / (time.perf_counter() - start)
    return rate, sum(weight.numel() for weight in denoiser.parameters())
