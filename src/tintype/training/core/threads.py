"""Threads: how many compute a step on processors that other programs use too.

The threads of a step wait for each other at every layer, thousands of times a second. Where another program takes one
of two cores, the thread on that core is late each time, and both together can be many times slower than one alone.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import deque
from collections.abc import Callable

import torch

PROBE_SECONDS = 0.04  # of one pass
_PASSES = 3
AS_FAST = 0.98  # of the rate of all threads: fewer are taken from here on; one of 32 less would lose 3 %
SLOW = 1.6  # times the usual step: probe again
SLOW_STEPS = 3  # in a row
SLOW_SECONDS = 2.0  # or one step as long as this
HOLD_SECONDS = 10.0  # at least between probes
RETRY_SECONDS = 30.0  # between probes while some threads are left out
_HISTORY = 31  # steps whose median is the usual one
_ENOUGH = 5  # steps before there is a usual one

Probe = Callable[[int, float], float]  # (threads, seconds) -> operations a second


def is_fixed() -> bool:
    """Whether the user chose the number of threads in the environment."""
    return "OMP_NUM_THREADS" in os.environ


def probe(threads: int, seconds: float) -> float:
    """Linear layers of a small network that so many threads compute in a second."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    x, weight = torch.ones(512, 192), torch.ones(192, 192) / 192
    try:
        num, start = 0, time.perf_counter()
        while (took := time.perf_counter() - start) < seconds:
            x = torch.nn.functional.linear(x, weight).clamp_(-1, 1)
            num += 1
    finally:
        torch.set_num_threads(before)
    return num / took


def fastest_threads(most: int, probe: Probe = probe) -> int:
    """The number of threads, at most `most`, that compute fastest now; `most` unless fewer are as fast."""
    if most == 1:
        return 1
    fewer = sorted({1, *(most - 2**k for k in range(most.bit_length()) if most > 2**k)})
    rates = dict.fromkeys((most, *reversed(fewer)), 0.0)
    for _ in range(_PASSES):
        for threads in rates:  # in turns: what other programs take changes all the time
            rates[threads] += probe(threads, PROBE_SECONDS)
    best = max(reversed(fewer), key=lambda threads: rates[threads])
    return best if rates[best] >= AS_FAST * rates[most] else most


class ThreadTuner:
    """Chooses the number of threads at the start and again when steps get slow, or when others may have finished.

        tuner = ThreadTuner(torch.get_num_threads())
        torch.set_num_threads(tuner.threads)
        for report in trainer.steps(images):
            if tuner.after_step(seconds):
                torch.set_num_threads(tuner.threads)

    On a quiet machine the number never changes, and with it no bit of the run.

    Args:
        most: threads to use where nothing else runs.
        probe, clock: for tests.
    """

    def __init__(self, most: int, probe: Probe = probe, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._probe = probe
        self._clock = clock
        self._seconds: deque[float] = deque(maxlen=_HISTORY)
        self._num_slow = 0
        self.threads = fastest_threads(most, probe)
        self._probed_at = clock()

    def __str__(self) -> str:
        if self.threads == self.most:
            return f"the machine is free: {self.most} threads"
        return f"other programs use this machine: {self.threads} of {self.most} threads"

    def after_step(self, seconds: float) -> bool:
        """Take in a step that took `seconds`. Returns whether the number of threads changed."""
        usual = statistics.median(self._seconds) if len(self._seconds) >= _ENOUGH else None
        if usual is not None and seconds > SLOW * usual:
            self._num_slow += 1
        else:
            self._num_slow = 0
            self._seconds.append(seconds)
        since = self._clock() - self._probed_at
        is_slow = self._num_slow >= SLOW_STEPS or (self._num_slow > 0 and seconds >= SLOW_SECONDS)
        if self.threads > 1 and is_slow and since >= HOLD_SECONDS:
            return self._choose()
        return self.threads < self.most and since >= RETRY_SECONDS and self._choose()

    def _choose(self) -> bool:
        before = self.threads
        self.threads = fastest_threads(self.most, self._probe)
        self._probed_at = self._clock()
        self._num_slow = 0
        self._seconds.clear()  # another number of threads, or slower for another reason: another usual step
        return self.threads != before
