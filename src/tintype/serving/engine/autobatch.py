"""Autobatch: the batch size of a network call, measured, because no rule predicts it for every machine."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from tintype.errors import is_out_of_memory
from tintype.pipeline.pipeline import Pipeline

MAX_BATCH = {"cpu": 64}  # elsewhere 512
MAX_CALL_SECONDS = 0.5  # a cancelled job waits for the network call it is in
MEASURE_SECONDS = 4.0
ROUNDS = 2  # over all sizes: what disturbs one measurement is over at the next
GOOD_RATE = 0.9  # of the best; larger batches would only make steps longer
POOR_RATE = 0.75  # of the best; beyond the best size, so larger ones are not tried


def measure_batch_size(pipeline: Pipeline) -> int:
    """The smallest power of two that makes at least 90 % of the most pictures per second. Takes a few seconds at most.

    On a CPU it measures the processor time of one thread, and each thread gets a batch of that size: with several, a
    busy machine makes threads wait for each other, which looks like a slow network and differs from start to start.
    """
    if pipeline.device.type != "cpu":
        return _measured(pipeline, 512)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return min(MAX_BATCH["cpu"], num_threads * _measured(pipeline, MAX_BATCH["cpu"]))
    finally:
        torch.set_num_threads(num_threads)


def best_size(seconds: Mapping[int, float]) -> int:
    """The smallest size with a good rate, of the seconds of a call by the number of pictures in it."""
    rates = {num: num / call_seconds for num, call_seconds in seconds.items()}
    return min(num for num, rate in rates.items() if rate >= GOOD_RATE * max(rates.values()))


def _measured(pipeline: Pipeline, limit: int) -> int:
    seconds: dict[int, float] = {}
    until = _clock(pipeline) + MEASURE_SECONDS
    num = 1
    while num <= limit:
        try:
            seconds[num] = _call_seconds(pipeline, num)
        except Exception as error:
            if num > 1 and is_out_of_memory(error):
                if pipeline.device.type == "cuda":
                    torch.cuda.empty_cache()
                break
            raise
        best_rate = max(size / seconds[size] for size in seconds)
        too_long = seconds[num] > MAX_CALL_SECONDS / 2 or _clock(pipeline) + 6 * seconds[num] > until
        if too_long or num / seconds[num] < POOR_RATE * best_rate:
            break
        num *= 2
    for _ in range(ROUNDS - 1):
        for num in seconds:
            if _clock(pipeline) + 3 * seconds[num] < until:
                seconds[num] = min(seconds[num], _call_seconds(pipeline, num))
    return best_size(seconds)


def _clock(pipeline: Pipeline) -> float:
    """Seconds; on a CPU those of this thread, on which other programs have little influence."""
    return time.thread_time() if pipeline.device.type == "cpu" else time.perf_counter()


def _call_seconds(pipeline: Pipeline, num: int) -> float:
    """The faster of two calls with `num` pictures, after a warm-up call."""
    side = pipeline.config.net.resolution // pipeline.codec.factor
    x = torch.zeros(num, pipeline.codec.channels, side, side, device=pipeline.device)
    sigma = torch.ones(num, device=pipeline.device)
    with torch.no_grad():
        denoise = pipeline.network.conditioned(pipeline.encode([""]).expand(num))
        seconds = []
        for _ in range(3):
            start = _clock(pipeline)
            float(denoise(x, sigma).sum())  # waits for the device
            seconds.append(_clock(pipeline) - start)
    return max(1e-6, min(seconds[1:]))
