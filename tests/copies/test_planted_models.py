"""Planted models: one that draws for each caption its training picture, and one that draws pictures it never saw."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tintype.copies.alarm import calibrate
from tintype.copies.avoid import CopyAvoidance
from tintype.copies.index import PictureIndex
from tintype.diffusion.noise import Purpose, normal
from tintype.diffusion.samplers import SAMPLERS, finish, steps_of
from tintype.diffusion.sigmas import log_snr_sigmas
from tintype.model.codec import PixelCodec, pictures_of, pixels_of
from tintype.shapes.draw import draw
from tintype.shapes.judge import check_picture
from tintype.shapes.scenes import RandomStream, Scene, make_rng, scene_at

SIGMAS = log_snr_sigmas(8, 0.02, 80.0)
CODEC = PixelCodec()


def scenes(seed: int, num: int) -> list[Scene]:
    """Scenes of two objects on white."""
    drawn = (scene_at(seed, index) for index in range(4 * num))
    return [Scene(scene.specs, 2, scene.relation, "white") for scene in drawn if scene.kind == "relation"][:num]


def pictures(seed: int, num: int) -> Tensor:
    images = [
        draw(scene, 32, make_rng(seed, index, RandomStream.PICTURE)) for index, scene in enumerate(scenes(seed, num))
    ]
    return torch.cat([pixels_of(image) for image in images])


def sampled(known: Tensor, steer: CopyAvoidance) -> Tensor:
    """What a model draws that answers with `known` pictures, one for each row, at every noise level."""
    x0 = CODEC.encode(known)
    noise = normal(0, Purpose.START, torch.arange(len(known)), tuple(x0.shape[1:]))
    x = SIGMAS[0].item() * noise
    return CODEC.decode(finish(steps_of(SAMPLERS["euler"], lambda x, sigma: steer(sigma, x0), x, SIGMAS)))


@pytest.mark.slow
def test_a_model_that_copies_turns_away_and_one_that_does_not_is_left_alone() -> None:
    training, held_out = pictures(21, 64), pictures(22, 300)
    index = PictureIndex.of([training])
    alarm = calibrate(index, held_out, training)
    target = (alarm.limit + float(index.nearest(held_out).relative.median())) / 2
    assert bool(alarm.raised(index.nearest(training)).all())

    def steer(num: int) -> CopyAvoidance:
        return CopyAvoidance(index, alarm.limit, target, torch.zeros(num, dtype=torch.int64), torch.arange(num), 0.02)

    turned = sampled(training, steer(64))
    assert not bool(alarm.raised(index.nearest(turned)).any())
    verdicts = [check_picture(image, scene) for image, scene in zip(pictures_of(turned), scenes(21, 64), strict=True)]
    right = [verdict.shapes and verdict.colors and verdict.count and verdict.relation for verdict in verdicts]
    assert sum(map(bool, right)) >= 0.9 * 64
    new = pictures(23, 200)
    others = steer(200)
    assert float((sampled(new, others) != new).flatten(1).any(1).float().mean()) <= 0.03
    assert float(others.turned.float().mean()) <= 0.03
