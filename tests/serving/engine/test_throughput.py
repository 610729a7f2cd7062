"""Estimated times, from known speeds and costs."""

from __future__ import annotations

import pytest
from tests.serving.conftest import Ready, job_of

from tintype.serving.engine.throughput import SMOOTHING, Throughput, remaining_cost


def test_nothing_is_estimated_before_the_first_measurement(held: Ready) -> None:
    job = job_of(held[0])
    assert Throughput().seconds_left(job, [job], []) is None
    assert Throughput().seconds_left(None, [job], []) is None
    assert Throughput().seconds_to_free_place([job]) == 1.0


def test_times_follow_from_cost_and_speed(held: Ready) -> None:
    jobs = [job_of(held[0], steps=8, seeds=seed) for seed in range(3)]
    half, whole, last = jobs
    half.start(8)
    half.index = 3  # four of eight steps are done
    cost = last.task.cost
    assert remaining_cost(half) == cost / 2
    throughput = Throughput()
    throughput.measure(cost, 2.0)  # a whole job takes two seconds
    assert throughput.seconds_left(half, [half], []) == pytest.approx(1.0)
    assert throughput.seconds_left(whole, [half, whole], []) == pytest.approx(3.0)  # shares one second with the half
    assert throughput.seconds_left(last, [half, whole], [last]) == pytest.approx(5.0)
    assert throughput.seconds_left(None, [half, whole], [last]) == pytest.approx(5.0)
    assert throughput.seconds_to_free_place([half, whole]) == pytest.approx(1.5)


def test_speed_is_a_moving_average(held: Ready) -> None:
    job = job_of(held[0])
    throughput = Throughput()
    throughput.measure(job.task.cost, 1.0)
    throughput.measure(job.task.cost, 0.5)
    assert throughput.seconds_left(job, [job], []) == pytest.approx(1 / (SMOOTHING + 2 * (1 - SMOOTHING)))
