"""Dropout of features and noise on text embeddings: pure functions of the position, exact on resume, off as before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tintype.config import Config, TrainConfig, nano
from tintype.model.denoiser import Denoiser
from tintype.model.network import num_dropped
from tintype.training.core.dropout import kept_at, noisy_embeddings, shortened
from tintype.training.core.trainer import Trainer

Make = Callable[..., Trainer]
SETTINGS = {"dropout": 0.2, "augment": 0.3, "text_noise": 0.5, "token_dropout": 0.3}


def regularized(config: Config, **settings: float) -> Config:
    return replace(config, train=replace(config.train, **(settings or SETTINGS)))


def test_a_share_of_the_features_is_dropped_and_their_mean_stays() -> None:
    train = TrainConfig(dropout=0.25)
    kept = kept_at(train, torch.arange(500), 400)
    assert kept.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float((kept == 0).double().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(kept_at(train, torch.arange(100, 103), 400), kept[100:103])
    assert torch.equal(kept_at(train, torch.arange(100, 103), 50), kept[100:103, :50])
    assert not torch.equal(kept[0], kept[1])


def test_text_noise_has_the_size_of_the_embeddings_and_leaves_ids_and_empty_captions() -> None:
    train = TrainConfig(text_noise=0.5)
    rows = [3 * torch.ones(40, 64).half(), torch.ones(0, 64).half(), 0.1 * torch.ones(20, 64).half()]
    noisy = noisy_embeddings(train, torch.arange(3), rows)
    for index, size in ((0, 3.0), (2, 0.1)):
        assert noisy[index].dtype == torch.float16
        assert float((noisy[index] - rows[index]).float().std()) == pytest.approx(0.5 * size, rel=0.05)
    assert noisy[1].shape == (0, 64)
    alone = noisy_embeddings(train, torch.tensor([2]), rows[2:])  # of any batch
    assert torch.equal(alone[0], noisy[2])
    ids = [torch.arange(4)]
    assert noisy_embeddings(train, torch.arange(1), ids) is ids


def test_captions_lose_a_share_of_their_tokens_in_order() -> None:
    train = TrainConfig(token_dropout=0.3)
    rows = [torch.arange(50) for _ in range(200)]
    short = shortened(train, torch.arange(200), rows)
    assert sum(map(len, short)) / 10_000 == pytest.approx(0.7, abs=0.02)
    assert all((row.diff() > 0).all() for row in short)
    assert torch.equal(shortened(train, torch.tensor([7]), rows[:1])[0], short[7])
    assert shortened(train, torch.arange(1), [torch.ones(0, 4)])[0].shape == (0, 4)


def test_every_feature_that_is_dropped_matters() -> None:
    config = nano(16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        denoiser = Denoiser(config).eval()
        for weight in denoiser.parameters():  # a fresh network gives 0 whatever is dropped
            torch.nn.init.normal_(weight, std=0.05)
    num = num_dropped(denoiser.net)
    x, sigma, cond = torch.ones(1, 3, 16, 16), torch.ones(1), denoiser.condition([torch.ones(2, 384)])
    kept = torch.ones(1, num, requires_grad=True)
    out = denoiser(x, sigma, cond, None, kept)
    assert torch.equal(out, denoiser(x, sigma, cond))
    out.square().sum().backward()
    assert kept.grad is not None
    assert float((kept.grad != 0).double().mean()) > 0.99  # each of them is some layer's


@pytest.mark.parametrize("stop_after", [12, pytest.param(36, marks=pytest.mark.slow)])
def test_resuming_is_bit_for_bit_the_run_without_a_stop(make_trainer: Make, tiny: Config, stop_after: int) -> None:
    whole, first, second = (make_trainer(regularized(tiny)) for _ in range(3))
    for _ in whole.steps(48):
        pass
    for _ in first.steps(stop_after):
        pass
    second.load(first.tensors(), first.counts())
    for _ in second.steps(48):
        pass
    assert all(torch.equal(weight, second.weights()[name]) for name, weight in whole.weights().items())


def test_a_position_has_the_same_loss_in_any_batch(make_trainer: Make, tiny: Config) -> None:
    trainer = make_trainer(regularized(tiny))
    (batch,) = trainer._read.batches(torch.arange(6))
    together = trainer._objective([batch])
    apart = torch.cat([trainer._objective([batch.slice(row, row + 1)]) for row in range(6)])
    assert torch.allclose(together, apart, rtol=1e-4)


@pytest.mark.parametrize("name", SETTINGS)
def test_each_changes_training_and_none_changes_what_is_measured(make_trainer: Make, tiny: Config, name: str) -> None:
    plain, changed = make_trainer(tiny), make_trainer(regularized(tiny, **{name: SETTINGS[name]}))
    assert plain.held_out_error() == changed.held_out_error()
    for trainer in (plain, changed):
        for _ in trainer.steps(8):
            pass
    assert any(not torch.equal(weight, changed.weights()[key]) for key, weight in plain.weights().items())
