"""Noise levels that are known by heart count less: where they are measured, how weights move, exact on resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tintype.config import Config, TrainConfig
from tintype.training.core import memorized_band
from tintype.training.core.memorized_band import MAX_STEPS, MemorizedBand
from tintype.training.core.trainer import Trainer

Make = Callable[..., Trainer]
LEVELS = (0.1, 1.0, 10.0)
TRAIN = TrainConfig(memorized_limit=0.2)


def band(num: int = 100, held_out: int = 10, train: TrainConfig = TRAIN) -> MemorizedBand:
    return MemorizedBand(train, LEVELS, torch.arange(num), torch.arange(num, num + held_out))


@pytest.mark.slow
def test_measurements_lie_at_fixed_positions_whatever_the_batches() -> None:
    for size in (7, 32, 100):
        due = [seen for seen in range(size, 10_000, size) if band().is_due(seen - size, seen)]
        exact = [2000, 2500, 3125, 3907, 4884, 6105, 7632, 9540]
        assert due == [-(-position // size) * size for position in exact]
    assert not band(held_out=7).is_due(0, 10**6)  # too few for a gauge
    assert not band(train=TrainConfig()).is_due(0, 10**6)


def test_weights_halve_where_pictures_are_known_and_recover_half_as_fast() -> None:
    weights = band()
    sigma = torch.tensor(LEVELS)
    assert torch.equal(weights.weight(sigma), torch.ones(3))
    unseen = torch.ones(5, 3)
    known = torch.tensor([0.9, 0.5, 1.2]).expand(4, 3)  # gauges of .1, .5 and below 0
    weights.update(unseen, known)
    assert torch.allclose(weights.weight(sigma), torch.tensor([1.0, 0.5, 1.0]))
    between = weights.weight(torch.tensor([0.05, 10**-0.5, 10**0.5, 80.0]))
    assert torch.allclose(between, torch.tensor([1.0, 0.5**0.5, 0.5**0.5, 1.0]))
    weights.update(unseen, torch.ones(4, 3))
    assert torch.allclose(weights.weight(sigma), torch.tensor([1.0, 0.5**0.5, 1.0]))
    for _ in range(20):
        weights.update(unseen, known)
    assert weights.steps == [0, MAX_STEPS, 0]


def test_its_state_is_in_checkpoints_only_where_it_is_used() -> None:
    weights, other = band(), band()
    weights.steps = [1, 4, 0]
    assert weights.counts() == {"band_0.1": 1, "band_1": 4, "band_10": 0}
    other.load(weights.counts())
    assert other.steps == weights.steps
    other.load({"images_seen": 5})  # of an older run
    assert other.steps == [0, 0, 0]
    assert band(train=TrainConfig()).counts() == {}


@pytest.fixture
def config(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(memorized_band, "MIN_PICTURES", 1)
    monkeypatch.setattr(memorized_band, "FIRST", 1.0)
    return replace(tiny, train=replace(tiny.train, memorized_limit=1e-9, lr=1e-3))


@pytest.mark.slow
def test_resuming_is_bit_for_bit_the_run_without_a_stop(make_trainer: Make, config: Config) -> None:
    whole, first, second = (make_trainer(config) for _ in range(3))
    for _ in whole.steps(48):
        pass
    for _ in first.steps(28):
        pass
    assert any(first._band.steps)
    second.load(first.tensors(), first.counts())
    for _ in second.steps(48):
        pass
    assert second._band.steps == whole._band.steps
    assert all(torch.equal(weight, second.weights()[name]) for name, weight in whole.weights().items())


def test_the_loss_counts_levels_less(make_trainer: Make, config: Config) -> None:
    trainer = make_trainer(config)
    (batch,) = trainer._read.batches(torch.arange(8))
    before = trainer._objective([batch])
    trainer._band.steps = [4] * 5
    assert torch.allclose(trainer._objective([batch]), before / 4)
