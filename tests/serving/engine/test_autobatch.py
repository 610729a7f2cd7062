"""The batch size of a network call: the same from start to start, whatever else the machine does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from tintype.pipeline.pipeline import Pipeline
from tintype.serving.engine import autobatch

SECONDS = {num: 0.004 + 0.001 * num for num in (1, 2, 4, 8, 16, 32, 64)}  # a start, and then as many as pictures


@pytest.mark.parametrize(
    ("seconds", "size"),
    [
        ({1: 1.0}, 1),
        ({1: 1.0, 2: 2.0, 4: 4.0}, 1),  # a batch gains nothing
        ({1: 1.0, 2: 1.0, 4: 1.0}, 4),
        ({1: 1.0, 2: 1.02, 4: 1.92, 8: 3.8, 16: 7.9}, 2),  # from there on nearly flat
        ({1: 1.0, 2: 1.9, 4: 3.6, 8: 6.8, 16: 12.8}, 8),  # small gains that add up
        (SECONDS, 32),
    ],
)
def test_the_smallest_size_with_nearly_the_most_pictures_a_second(seconds: dict[int, float], size: int) -> None:
    assert autobatch.best_size(seconds) == size


@pytest.mark.parametrize("disturbed", sorted(SECONDS)[:6])
def test_one_disturbed_measurement_changes_nothing(
    disturbed: int, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[int] = Counter()

    def call_seconds(pipeline: Pipeline, num: int) -> float:
        calls[num] += 1
        return SECONDS[num] * (1.3 if num == disturbed and calls[num] == 1 else 1.0)

    monkeypatch.setattr(autobatch, "_call_seconds", call_seconds)
    threads = torch.get_num_threads()
    assert autobatch.measure_batch_size(Pipeline.load(tiny_model, "cpu")) == 32
    assert torch.get_num_threads() == threads


def test_every_thread_of_a_processor_gets_its_batch(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = {1: 1e-3, 2: 1e-3, 4: 2e-3, 8: 4e-3}
    monkeypatch.setattr(autobatch, "_call_seconds", lambda pipeline, num: flat.get(num, 1.0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(torch, "set_num_threads", lambda num: None)
    assert autobatch.measure_batch_size(Pipeline.load(tiny_model, "cpu")) == 6
