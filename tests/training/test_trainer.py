"""Training goes on exactly where it stopped, leaves weights alone when numbers fail, and learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import Tensor

from tintype.config import Config
from tintype.errors import CheckpointError, TrainingError
from tintype.training.core.target import CleanPicture
from tintype.training.core.trainer import MAX_SKIPPED, StepReport, Trainer
from tintype.training.core.validation_error import LEVELS
from tintype.training.core.weights import load_weights

Make = Callable[..., Trainer]


def snapshot(trainer: Trainer) -> dict[str, Tensor]:
    return {
        f"{part}/{name}": tensor.clone()
        for part, tensors in trainer.tensors().items()
        for name, tensor in tensors.items()
    }


def assert_same(left: Trainer, right: Trainer) -> None:
    first, second = snapshot(left), snapshot(right)
    assert set(first) == set(second)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert left.counts() == right.counts()


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("stop_after", [0, 1, 3, 6])  # 9 samples in batches of 4: 1 and 3 are in mid-epoch
def test_resuming_is_bit_for_bit_the_run_without_a_stop(make_trainer: Make, stop_after: int, bf16: bool) -> None:
    straight = make_trainer(bf16=bf16)
    reports = list(straight.steps(6 * 4))
    first = make_trainer(bf16=bf16)
    list(first.steps(stop_after * 4))
    second = make_trainer(seed=1, bf16=bf16)  # other weights at first: all must be replaced
    tensors = {part: {k: v.clone() for k, v in named.items()} for part, named in first.tensors().items()}
    second.load(tensors, first.counts())
    assert list(second.steps(6 * 4)) == reports[stop_after:]
    assert_same(straight, second)


def test_looking_at_the_model_between_steps_changes_nothing(make_trainer: Make) -> None:
    quiet, watched = make_trainer(), make_trainer()
    list(quiet.steps(12))
    for _ in watched.steps(12):
        watched.held_out_error()
        with watched.averaged():
            assert not watched.denoiser.training
        assert watched.denoiser.training
    assert_same(quiet, watched)


def test_global_random_numbers_are_neither_used_nor_touched(make_trainer: Make) -> None:
    first, second = make_trainer(), make_trainer()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    list(first.steps(8))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    list(second.steps(8))
    assert_same(first, second)


def test_another_seed_is_another_run(make_trainer: Make, tiny: Config) -> None:
    other = replace(tiny, train=replace(tiny.train, seed=1))
    first, second = make_trainer(), make_trainer(other)
    assert [report.loss for report in first.steps(8)] != [report.loss for report in second.steps(8)]


def test_steps_report_after_the_step_and_count_images(make_trainer: Make, tiny: Config) -> None:
    trainer = make_trainer()
    before = snapshot(trainer)
    report = next(trainer.steps(100))
    assert report == StepReport(4, report.loss, report.grad_norm, report.lr, False)
    assert report.lr == pytest.approx(tiny.train.lr / 2)
    assert math.isfinite(report.loss)
    changed = [name for name, tensor in snapshot(trainer).items() if name.startswith("model/") and name in before]
    assert any(not torch.equal(before[name], trainer.tensors()["model"][name[6:]]) for name in changed)


def test_a_batch_may_be_larger_than_the_data(make_trainer: Make, tiny: Config) -> None:
    trainer = make_trainer(replace(tiny, train=replace(tiny.train, batch_size=25)))
    reports = list(trainer.steps(50))
    assert [report.images_seen for report in reports] == [25, 50]


def test_a_sample_at_a_position_does_not_depend_on_its_batch(make_trainer: Make, tiny: Config) -> None:
    calls: list[tuple[Tensor, Tensor, Tensor]] = []

    class Recording(CleanPicture):
        def __call__(self, x0: Tensor, x: Tensor, sigma: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
            calls.append((x0, x, sigma))
            return super().__call__(x0, x, sigma, embeddings)

    target = Recording(tiny)
    list(make_trainer(replace(tiny, train=replace(tiny.train, batch_size=12)), target=target).steps(12))
    list(make_trainer(target=target).steps(12))
    full_batch, *thirds = calls
    assert len(thirds) == 3
    for index in range(3):
        assert torch.equal(full_batch[index], torch.cat([third[index] for third in thirds]))


def test_captions_are_dropped_at_the_share_that_is_set(make_trainer: Make, tiny: Config) -> None:
    for share, expected in ((0.0, False), (1.0, True)):
        trainer = make_trainer(replace(tiny, train=replace(tiny.train, caption_dropout=share)))
        (part,) = trainer._read.batches(torch.arange(8))
        assert [len(state) == 0 for state in part.text_embeddings] == [expected] * 8
        assert all(state.shape[1] == 4 for state in part.text_embeddings)


class Bomb:
    """A loss weight that is NaN in chosen calls."""

    def __init__(self, steps: set[int]) -> None:
        self.steps = steps
        self.count = -1

    def __call__(self, sigma: Tensor) -> Tensor:
        self.count += 1
        return torch.full_like(sigma, math.nan if self.count in self.steps else 1.0)


@pytest.mark.parametrize(("micro_batch", "bad"), [(0, 1), (2, 2), (2, 3)])  # the second step, or a half of it
def test_a_step_that_is_not_finite_leaves_the_weights_alone_and_is_counted(
    make_trainer: Make, tiny: Config, micro_batch: int, bad: int
) -> None:
    config = replace(tiny, train=replace(tiny.train, micro_batch=micro_batch))
    trainer = make_trainer(config, loss_weight=Bomb({bad}))
    steps = trainer.steps(12)
    next(steps)
    before = snapshot(trainer)
    report = next(steps)
    assert report.skipped
    assert report.images_seen == 8
    after = snapshot(trainer)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert trainer.num_skipped == 1
    assert not next(steps).skipped
    assert all(bool(torch.isfinite(tensor).all()) for tensor in snapshot(trainer).values())


def test_step_after_step_without_a_finite_gradient_is_an_error(make_trainer: Make) -> None:
    trainer = make_trainer(loss_weight=Bomb(set(range(2, 1000))))
    with pytest.raises(TrainingError, match="in a row"):
        list(trainer.steps(10_000))
    assert trainer.num_skipped == MAX_SKIPPED
    assert trainer.images_seen == 4 * (2 + MAX_SKIPPED)


def test_gradients_are_clipped(make_trainer: Make, tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(replace(tiny, train=replace(tiny.train, clip_norm=1e-3)))
    report = next(trainer.steps(4))
    norm = torch.cat([w.grad.flatten() for w in trainer.denoiser.parameters() if w.grad is not None]).norm()
    assert report.grad_norm > 1e-3
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.slow
def test_training_lowers_the_held_out_error_and_the_loss(make_trainer: Make, tiny: Config) -> None:
    train = replace(tiny.train, images=800, lr=1e-3, batch_size=8, held_out=0.1, caption_dropout=0.0)
    trainer = make_trainer(replace(tiny, train=train))
    first = [report.loss for report in islice(trainer.steps(800), 20)]
    early = trainer.held_out_error()
    last = [report.loss for report in trainer.steps(800)][-20:]
    assert sum(last) < 0.8 * sum(first)
    assert set(early) == set(LEVELS)
    assert trainer.held_out_error()[1.0] < early[1.0]


def test_without_held_out_pictures_there_is_no_error_to_report(make_trainer: Make, tiny: Config) -> None:
    assert make_trainer(replace(tiny, train=replace(tiny.train, held_out=0.0))).held_out_error() == {}


def test_weights_of_another_model_are_refused_by_name(make_trainer: Make) -> None:
    denoiser = make_trainer().denoiser
    weights = {name: weight.detach().clone() for name, weight in denoiser.named_parameters()}
    name = next(iter(weights))
    with pytest.raises(CheckpointError, match="missing"):
        load_weights(denoiser, {key: value for key, value in weights.items() if key != name})
    with pytest.raises(CheckpointError, match="unknown"):
        load_weights(denoiser, {**weights, "extra": torch.ones(1)})
    with pytest.raises(CheckpointError, match="shape"):
        load_weights(denoiser, {**weights, name: torch.ones(1, 2, 3)})
