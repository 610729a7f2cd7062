"""How many pictures to show a network in one call: measured, since no rule holds for all machines."""

from __future__ import annotations

import time

import torch

from tintype.pipeline.pipeline import Pipeline
from tintype.training.core.device import is_out_of_memory

MAX_PICTURES = {"cpu": 64}  # elsewhere 512
CALL_SECONDS = 0.5  # at most: a cancelled request waits for the call it is in
MEASURE_SECONDS = 4.0
WORTH = 1.05  # times as many pictures a second make a larger batch worth its longer steps


def measured(pipeline: Pipeline) -> int:
    """The batch from which on a larger one brings less than 5 % more pictures a second. Takes some seconds at most."""
    most = MAX_PICTURES.get(pipeline.device.type, 512)
    best, best_rate = 1, 0.0
    until = time.perf_counter() + MEASURE_SECONDS
    num = 1
    while num <= most:
        try:
            seconds = _call_seconds(pipeline, num)
        except Exception as error:
            if num > 1 and is_out_of_memory(error):
                return best
            raise
        if num / seconds > WORTH * best_rate:
            best, best_rate = num, num / seconds
        if seconds > CALL_SECONDS / 2 or time.perf_counter() + 3 * seconds > until:
            return best
        num *= 2
    return best


def _call_seconds(pipeline: Pipeline, num: int) -> float:
    """The quicker of two calls with `num` pictures, after one that does not count.

    On a processor, of its time: by the clock, other programs would choose the batch.
    """
    on_cpu = pipeline.device.type == "cpu"
    clock, share = (time.process_time, torch.get_num_threads()) if on_cpu else (time.perf_counter, 1)
    side = pipeline.config.net.resolution
    x = torch.zeros(num, pipeline.config.net.channels, side, side, device=pipeline.device)
    sigma = torch.ones(num, device=pipeline.device)
    with torch.no_grad():
        denoise = pipeline.denoiser.given(pipeline.encode([""]).expand(num))
        seconds = []
        for _ in range(3):
            start = clock()
            float(denoise(x, sigma).sum())  # waits for the device
            seconds.append((clock() - start) / share)
    return max(1e-6, min(seconds[1:]))
