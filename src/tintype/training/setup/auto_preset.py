"""Which preset suits a budget of time on this machine: measured on made-up pictures, before the data are read."""

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
WEIGHTS_AN_IMAGE = 100  # a model that is shown fewer images than its weights divided by this is too large to learn
FEWEST_STEPS = 1000  # or batches are halved
SMALLEST_BATCH = 16
BF16_GAIN = 1.1  # whole steps must be this much faster in bfloat16 before its rounding is worth it
_SECONDS = 5.0  # of a measurement
_TRIED = {"cpu": 16}  # pictures, at most, in a step that is tried in both precisions; 64 on other devices
_TOKENS = 16  # of a caption


class SyntheticData:
    """Random pictures and text states."""

    def __init__(self, config: Config) -> None:
        side = config.net.resolution
        self._picture = torch.randint(0, 256, (3, side, side), dtype=torch.uint8)
        self._state = torch.randn(_TOKENS, config.text.state_width).half()

    def order(self, seed: int, indices: Tensor) -> Order:
        return Order(seed, len(indices))

    def by_shape(self, indices: Tensor) -> list[Tensor]:
        return [torch.arange(len(indices))]

    def pictures(self, indices: Tensor) -> Tensor:
        return self._picture.expand(len(indices), -1, -1, -1)

    def states(self, indices: Tensor, choice: Tensor) -> list[Tensor]:
        return [self._state] * len(indices)

    def split(self, share: float) -> tuple[Tensor, Tensor]:
        return torch.arange(2**16), torch.arange(0)


def auto_preset(largest: str, seconds: float, resolution: int | None, device: torch.device, *, bf16: bool) -> Config:
    """The largest preset, up to `largest`, that can be shown enough images in `seconds`, and a batch that suits it."""
    for name in reversed(SIZES[: SIZES.index(largest) + 1]):
        config = PRESETS[name]() if resolution is None else PRESETS[name](resolution)
        if name == SIZES[0]:
            break
        rate, num_weights = measure_preset(config, device, bf16)
        images = rate * seconds
        if images * WEIGHTS_AN_IMAGE >= num_weights:
            return replace(
                config, train=replace(config.train, batch_size=batch_within(images, config.train.batch_size))
            )
    return config


def bf16_steps_are_faster(
    config: Config, device: torch.device, make_denoiser: Callable[[Config], Denoiser] = Denoiser
) -> bool:
    """Whether whole steps of a model of `config` are clearly faster in bfloat16: both are timed, in turns."""
    size = min(config.train.batch_size, _TRIED.get(device.type, 64))
    config = replace(config, text=TextConfig(), train=replace(config.train, batch_size=size, micro_batch=0))
    steps = []
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)  # its time can be told from that of other programs
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
    """The seconds of the fastest step of each kind, in turns for some seconds and at least once."""
    taken: list[list[float]] = [[] for _ in steps]
    start = time.perf_counter()
    while not taken[0] or time.perf_counter() - start < _SECONDS:
        for own, seconds in zip(steps, taken, strict=True):
            before = clock()
            next(own)  # reports numbers, so that the device is done with it
            seconds.append(clock() - before)
    return [min(seconds) for seconds in taken]


def batch_within(images: float, batch_size: int) -> int:
    """`batch_size`, halved until `images` are enough steps."""
    while batch_size > SMALLEST_BATCH and images < FEWEST_STEPS * batch_size:
        batch_size //= 2
    return batch_size


def measure_preset(config: Config, device: torch.device, bf16: bool) -> tuple[float, int]:
    """Images per second, and the number of weights."""
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
