"""The number of threads follows what other programs leave, and stays on a quiet machine."""

from __future__ import annotations

import pytest
import torch

from tintype.training.core.threads import HOLD_SECONDS, RETRY_SECONDS, ThreadTuner, fastest_threads, probe


class Machine:
    """Cores, some of them taken: threads beyond the free cores slow all threads tenfold."""

    def __init__(self, cores: int, taken: int = 0) -> None:
        self.cores, self.taken, self.now, self.num_probes = cores, taken, 0.0, 0

    def rate(self, threads: int) -> float:
        return threads / (10 if threads > self.cores - self.taken else 1)

    def probe(self, threads: int, seconds: float) -> float:
        self.now += seconds
        self.num_probes += 1
        return self.rate(threads)

    def step(self, tuner: ThreadTuner) -> bool:
        seconds = 0.5 / self.rate(tuner.threads)
        self.now += seconds
        return tuner.after_step(seconds)


@pytest.mark.parametrize(
    ("cores", "taken", "threads"), [(2, 0, 2), (2, 1, 1), (16, 0, 16), (16, 1, 15), (16, 3, 12), (1, 1, 1)]
)
def test_the_free_cores_are_used(cores: int, taken: int, threads: int) -> None:
    assert fastest_threads(cores, Machine(cores, taken).probe) == threads


def test_on_a_quiet_machine_nothing_is_probed_or_changed_after_the_start() -> None:
    machine = Machine(2)
    tuner = ThreadTuner(2, machine.probe, lambda: machine.now)
    probes = machine.num_probes
    assert not any(machine.step(tuner) for _ in range(10_000))
    assert (tuner.threads, machine.num_probes) == (2, probes)


def test_a_core_that_is_taken_and_freed_again() -> None:
    machine = Machine(2)
    tuner = ThreadTuner(2, machine.probe, lambda: machine.now)
    for _ in range(100):
        machine.step(tuner)
    machine.taken = 1
    start = machine.now
    while not machine.step(tuner):
        assert machine.now < start + HOLD_SECONDS + 60
    assert tuner.threads == 1
    for _ in range(200):
        machine.step(tuner)
    assert tuner.threads == 1  # still taken
    machine.taken = 0
    start = machine.now
    while not machine.step(tuner):
        assert machine.now < start + RETRY_SECONDS + 5
    assert tuner.threads == 2


def test_a_busy_start_uses_fewer_threads() -> None:
    machine = Machine(4, taken=2)
    assert ThreadTuner(4, machine.probe, lambda: machine.now).threads == 2


def test_a_slow_step_alone_is_no_reason_to_probe() -> None:
    machine = Machine(2)
    tuner = ThreadTuner(2, machine.probe, lambda: machine.now)
    machine.now += 100
    probes = machine.num_probes
    for index in range(1000):
        tuner.after_step(1.9 if index % 10 == 9 else 0.2)
    assert machine.num_probes == probes


def test_slowness_that_fewer_threads_do_not_cure_becomes_the_usual_step() -> None:
    machine = Machine(2)
    tuner = ThreadTuner(2, machine.probe, lambda: machine.now)
    probes = machine.num_probes
    for seconds in [0.2] * 100 + [0.5] * 1000:
        machine.now += seconds
        tuner.after_step(seconds)
    assert tuner.threads == 2
    assert machine.num_probes - probes == 6  # one comparison: three passes of two


def test_the_probe_computes_and_leaves_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    assert probe(1, 0.01) > 0
    assert torch.get_num_threads() == before
