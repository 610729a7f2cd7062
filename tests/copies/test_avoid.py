"""Sampling that turns away from copies, with the ideal denoiser of a few pictures, which can do nothing but copy."""

from __future__ import annotations

import pytest
import torch
from tests.copies.test_index import scenes
from torch import Tensor

from tintype.copies.avoid import NUM_MOVES, CopyAvoidance, displaced, displacements
from tintype.copies.index import PictureIndex
from tintype.diffusion.exact import finite_denoiser
from tintype.diffusion.noise import Purpose, normal
from tintype.diffusion.samplers import SAMPLERS, finish, steps_of
from tintype.diffusion.sigmas import log_snr_sigmas

SIDE, NUM, LIMIT, TARGET = 24, 6, 0.5, 0.55
TRAINING = scenes(0, 40, SIDE)
SIGMAS = log_snr_sigmas(8, 0.02, 80.0)


@pytest.fixture(scope="module")
def index() -> PictureIndex:
    return PictureIndex.of([TRAINING])


def avoidance(index: PictureIndex, rows: list[int]) -> CopyAvoidance:
    seeds, indices = torch.full((len(rows),), 3), torch.tensor(rows)
    return CopyAvoidance(index, LIMIT, TARGET, seeds, indices, float(SIGMAS[-2]))


def sampled(rows: list[int], steer: CopyAvoidance | None) -> Tensor:
    ideal = finite_denoiser(TRAINING.float() / 127.5 - 1)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        denoised = torch.cat([ideal(x[row : row + 1], sigma[row : row + 1]) for row in range(len(x))])
        return denoised if steer is None else steer(sigma, denoised)

    noise = normal(3, Purpose.START, torch.tensor(rows), (3, SIDE, SIDE))
    return finish(steps_of(SAMPLERS["unipc"], denoise, SIGMAS[0].item() * noise, SIGMAS))


def pixels(x0: Tensor) -> Tensor:
    return ((x0 + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def test_a_model_that_only_copies_no_longer_does(index: PictureIndex) -> None:
    rows = list(range(NUM))
    copied = index.nearest(pixels(sampled(rows, None)))
    assert bool((copied.relative < 0.2).all())
    steer = avoidance(index, rows)
    turned = index.nearest(pixels(sampled(rows, steer)))
    assert bool((turned.relative > LIMIT).all())
    assert bool(steer.turned.all())


def test_a_picture_turned_away_alone_is_the_one_of_its_batch(index: PictureIndex) -> None:
    together = sampled([4, 5], avoidance(index, [4, 5]))
    assert torch.equal(sampled([5], avoidance(index, [5])), together[1:])


def test_what_is_no_copy_stays_the_same_tensor(index: PictureIndex) -> None:
    new = scenes(700, 3, SIDE).float() / 127.5 - 1
    steer = avoidance(index, [0, 1, 2])
    for sigma in SIGMAS[:-1].tolist():
        assert steer(torch.full((3,), sigma), new) is new
    assert not bool(steer.turned.any())


def test_only_the_copy_in_a_batch_is_moved_and_counted(index: PictureIndex) -> None:
    mixed = torch.cat([scenes(700, 1, SIDE), TRAINING[7:8]]).float() / 127.5 - 1
    steer = avoidance(index, [0, 1])
    moved = steer(torch.full((2,), 1.0), mixed)
    assert torch.equal(moved[0], mixed[0])
    assert not torch.equal(moved[1], mixed[1])
    assert steer.turned.tolist() == [False, True]
    assert float(index.plain_relative((moved[1:] + 1) * 127.5)) >= TARGET


def test_no_pictures_are_no_pictures(index: PictureIndex) -> None:
    nothing = torch.empty(0, 3, SIDE, SIDE)
    assert avoidance(index, [])(torch.empty(0), nothing) is nothing


def test_a_move_is_as_large_as_it_says_and_none_changes_nothing() -> None:
    field = displacements(normal(0, Purpose.TURN, 5, (NUM_MOVES, 4))[0], 20, 30)
    assert field.shape == (NUM_MOVES, 2, 20, 30)
    torch.testing.assert_close(field.square().mean((1, 2, 3)), torch.ones(NUM_MOVES))
    picture = scenes(0, 1, 32)[:, :, :20, :30].float() / 127.5 - 1
    torch.testing.assert_close(displaced(picture, 0 * field)[:1], picture, rtol=0, atol=1e-4)
    right = torch.zeros(1, 2, 20, 30)
    right[:, 0] = 3 / 30  # each pixel is taken from three pixels further right
    torch.testing.assert_close(displaced(picture, right)[..., :26], picture[..., 3:29], rtol=0, atol=1e-4)


def test_the_plain_distance_is_the_exact_one_without_views(index: PictureIndex) -> None:
    queries = scenes(500, 4, SIDE)
    plain = index.plain_relative(queries.float())
    assert bool((plain >= index.nearest(queries).relative - 0.05).all())
    same = index.plain_relative(TRAINING[:2].float())
    assert float(same.max()) < 0.05
