"""Samples at half the size: which they are, how they look, and that runs with them stay exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tintype.config import Config, TrainConfig, nano
from tintype.errors import ConfigError
from tintype.model.aspect_buckets import bucket_shapes
from tintype.training.core.batches import Reader
from tintype.training.core.half_size import SIGMA, half_size_at, halved
from tintype.training.core.trainer import Trainer
from tintype.training.setup import plan
from tintype.training.setup.plan import Speed

Make = Callable[..., Trainer]
TRAIN = TrainConfig(images=10_000, batch_size=4, half_size=0.75, decay_fraction=0.2)


@pytest.fixture
def config(tiny: Config) -> Config:
    return replace(tiny, train=replace(tiny.train, half_size=0.5))


def test_the_share_is_drawn_by_position_and_ends_when_the_learning_rate_falls() -> None:
    positions = torch.arange(10_000)
    is_half = half_size_at(TRAIN, positions)
    assert abs(float(is_half[:8000].double().mean()) - 0.75) < 0.02
    assert not is_half[8000:].any()
    assert torch.equal(half_size_at(TRAIN, positions[777:900]), is_half[777:900])
    longer = half_size_at(replace(TRAIN, images=20_000), positions)
    assert torch.equal(longer[:8000], is_half[:8000])  # a run that is extended keeps its samples
    assert longer[8000:].any()
    assert not half_size_at(replace(TRAIN, half_size=0.0), positions).any()


@pytest.mark.parametrize("resolution", [128, 256])
def test_tall_and_wide_pictures_keep_their_shape_nearly(resolution: int) -> None:
    config = nano(resolution)
    shapes = bucket_shapes(resolution, config.net.multiple, config.data.max_aspect)
    assert len(shapes) > 10
    for height, width in shapes:
        small = halved(torch.zeros(1, 3, height, width, dtype=torch.uint8), config.net.multiple).shape[-2:]
        assert all(side % config.net.multiple == 0 for side in small)
        assert 0.2 < small[0] * small[1] / (height * width) < 0.34
        assert 0.75 < small[0] / small[1] * width / height < 1.35


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [((64, 64), 16, (32, 32)), ((112, 160), 16, (64, 80)), ((48, 16), 16, (32, 16)), ((6, 10), 1, (3, 5))],
)
def test_half_the_size_is_a_multiple_of_the_patch(
    size: tuple[int, int], multiple: int, expected: tuple[int, int]
) -> None:
    assert halved(torch.zeros(2, 3, *size, dtype=torch.uint8), multiple).shape == (2, 3, *expected)


def test_a_reduced_picture_keeps_its_mean_and_its_layout() -> None:
    ramp = torch.arange(0, 256, 8).expand(1, 3, 32, 32).to(torch.uint8)
    reduced = halved(ramp, 1).float()
    assert reduced.mean() == pytest.approx(float(ramp.float().mean()), abs=0.5)
    assert (reduced[0, 0].diff(dim=1) > 0).all()
    checkers = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 255  # antialiased: gray, not black or white
    gray = halved(checkers.expand(1, 3, 32, 32).to(torch.uint8), 1)[..., 2:-2, 2:-2].float()
    assert (gray - 127.5).abs().max() < 8


def test_a_step_has_each_position_once_and_its_levels_are_lower(make_trainer: Make, config: Config) -> None:
    trainer = make_trainer(config)
    read: Reader = trainer._read
    positions = torch.arange(16)
    batches = read.batches(positions)
    assert sorted(torch.cat([batch.positions for batch in batches]).tolist()) == positions.tolist()
    is_half = half_size_at(config.train, positions)
    for batch in batches:
        small = bool(is_half[batch.positions[0]])
        assert batch.pictures.shape[-1] == (4 if small else 8)
        assert batch.sigma_factor == (SIGMA if small else 1.0)
        assert bool((is_half[batch.positions] == small).all())
        assert batch.slice(0, 1).sigma_factor == batch.sigma_factor
    whole = {int(p): p_ for b in batches for p, p_ in zip(b.positions, b.text_embeddings, strict=True)}
    plain = Reader(trainer._samples, trainer._training, replace(config.train, half_size=0.0), 0).batches(positions)
    for position, embedding in zip(plain[0].positions, plain[0].text_embeddings, strict=True):
        assert torch.equal(whole[int(position)], embedding)  # the captions are those of the run without


def test_the_noise_levels_of_the_network_are_those_of_the_smaller_picture(make_trainer: Make, config: Config) -> None:
    seen: dict[int, list[Tensor]] = {4: [], 8: []}

    class Target:
        levels = (1.0,)

        def sigmas(self, positions: Tensor) -> Tensor:
            return torch.full((len(positions),), 2.0)

        def __call__(self, x0: Tensor, x: Tensor, sigma: Tensor, embeddings: object) -> Tensor:
            seen[x0.shape[-1]].append(sigma)
            return x0

    trainer = make_trainer(config, target=Target())
    for _ in trainer.steps(config.train.images):
        pass
    assert (torch.cat(seen[8]) == 2.0).all()
    assert torch.allclose(torch.cat(seen[4]), torch.tensor(2**0.5))
    expected = int(half_size_at(config.train, torch.arange(config.train.images)).sum())
    assert len(torch.cat(seen[4])) == expected > 20


@pytest.mark.parametrize("stop_after", [12, pytest.param(56, marks=pytest.mark.slow)])
def test_resuming_is_bit_for_bit_the_run_without_a_stop(make_trainer: Make, config: Config, stop_after: int) -> None:
    whole, first, second = (make_trainer(config) for _ in range(3))
    for _ in whole.steps(64):
        pass
    for _ in first.steps(stop_after):
        pass
    second.load(first.tensors(), first.counts())
    for _ in second.steps(64):
        pass
    assert all(torch.equal(weight, second.weights()[name]) for name, weight in whole.weights().items())


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.slow
def test_moving_the_end_early_is_the_run_of_the_final_length(make_trainer: Make, config: Config, ahead: int) -> None:
    shorter = replace(config, train=replace(config.train, images=40))
    planned, final = make_trainer(config, ahead=ahead), make_trainer(shorter, ahead=ahead)
    for _ in planned.steps(28):  # of 32 before the learning rate of the shorter run falls
        pass
    planned.set_images(40)
    for trainer in (planned, final):
        for _ in trainer.steps(40):
            pass
    assert all(torch.equal(weight, planned.weights()[name]) for name, weight in final.weights().items())


def test_micro_batches_give_the_same_gradient(make_trainer: Make, config: Config) -> None:
    micro = replace(config, train=replace(config.train, micro_batch=1))
    whole, parts = make_trainer(config), make_trainer(micro)
    for trainer in (whole, parts):
        for _ in trainer.steps(16):
            pass
    for name, weight in whole.weights().items():
        assert torch.allclose(weight, parts.weights()[name], atol=1e-5)


def test_pictures_of_one_patch_cannot_be_halved(tiny: Config) -> None:
    net = replace(tiny.net, patch=8)
    with pytest.raises(ConfigError, match="half_size needs pictures of at least two patches"):
        replace(tiny, net=net, train=replace(tiny.train, half_size=0.5))


def test_a_plan_counts_both_speeds(make_trainer: Make, config: Config) -> None:
    speed = Speed(100.0, 0.0, 0.0, full_size_per_second=25.0)
    train = replace(TRAIN, sample_minutes=1e9, save_minutes=1e9)
    # Eight of ten images take .01 s each, two .04 s.
    assert plan.expected_seconds(10_000, speed, train) == pytest.approx(80 + 80)
    assert plan.images_within(160 / 0.97, speed, train) == pytest.approx(10_000, abs=4)
    # After 4,000 images, in 40 s, the rest of that run fits into the rest of the time.
    assert plan.images_within(120 / 0.97, speed, train, 4000) == pytest.approx(10_000, abs=4)
    measured = plan.measure(make_trainer(config), 1e-9, lambda: 0.0)
    assert measured.full_size_per_second > 0
    assert plan.measure(make_trainer(), 1e-9, lambda: 0.0).full_size_per_second == 0


def test_the_time_left_counts_what_full_size_costs() -> None:
    train = replace(TRAIN, half_size=1.0)  # .3 of the cost of full size, for 8,000 images
    assert train.images_left(8000) == 2000
    assert train.images_left(9000) == 1000
    assert train.images_left(7000) == pytest.approx(1000 + 2000 / 0.3)
    assert replace(TRAIN, half_size=0.0).images_left(7000) == 3000
    assert TRAIN.images_left(20_000) == 0


def test_pictures_of_128_pixels_are_learned_at_half_the_size_first() -> None:
    assert nano(128).train.half_size > 0
    assert nano(64).train.half_size == 0
