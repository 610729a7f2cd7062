"""Autobatch: the batch size of a network call, measured, because no rule predicts it for every machine."""

from __future__ import annotations

import time

import torch

from tintype.errors import is_out_of_memory
from tintype.pipeline.pipeline import Pipeline

MAX_BATCH = {"cpu": 64}  # elsewhere 512
MAX_CALL_SECONDS = 0.5  # a cancelled job waits for the network call it is in
MEASURE_SECONDS = 4.0
MIN_GAIN = 1.05  # in pictures per second; a smaller gain does not justify the longer steps of a larger batch


def measure_batch_size(pipeline: Pipeline) -> int:
    """The largest power of two that still makes at least 5 % more pictures per second. Takes a few seconds at most."""
    limit = MAX_BATCH.get(pipeline.device.type, 512)
    best, best_rate = 1, 0.0
    until = time.perf_counter() + MEASURE_SECONDS
    num = 1
    while num <= limit:
        try:
            seconds = _call_seconds(pipeline, num)
        except Exception as error:
            if num > 1 and is_out_of_memory(error):
                return best
            raise
        if num / seconds > MIN_GAIN * best_rate:
            best, best_rate = num, num / seconds
        if seconds > MAX_CALL_SECONDS / 2 or time.perf_counter() + 3 * seconds > until:
            return best
        num *= 2
    return best


def _call_seconds(pipeline: Pipeline, num: int) -> float:
    """The faster of two calls with `num` pictures, after a warm-up call.

    On a CPU it measures processor time, since by wall time other programs would influence the batch size.
    """
    on_cpu = pipeline.device.type == "cpu"
    clock, num_threads = (time.process_time, torch.get_num_threads()) if on_cpu else (time.perf_counter, 1)
    side = pipeline.config.net.resolution // pipeline.codec.factor
    x = torch.zeros(num, pipeline.codec.channels, side, side, device=pipeline.device)
    sigma = torch.ones(num, device=pipeline.device)
    with torch.no_grad():
        denoise = pipeline.denoiser.conditioned(pipeline.encode([""]).expand(num))
        seconds = []
        for _ in range(3):
            start = clock()
            float(denoise(x, sigma).sum())  # waits for the device
            seconds.append((clock() - start) / num_threads)
    return max(1e-6, min(seconds[1:]))
