"""Origins of pictures: weights of the ideal denoiser against a computation by hand, and who is found on a known way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.evaluation.conftest import opened

from tintype.data.thread_pool import finished
from tintype.diffusion.exact import finite_denoiser, posterior_weights
from tintype.diffusion.noise import normal
from tintype.evaluation.origins import Way, draw_way, find_origins


@pytest.mark.parametrize("size", [1, 7, 40])
def test_weights_are_those_of_the_ideal_denoiser_whatever_the_blocks(size: int) -> None:
    points = normal(1, 0, torch.arange(40), (3, 4, 4))
    sigmas = torch.tensor([0.05, 0.7, 3.0, 40.0])
    x = points[[3, 3, 9, 9]] + sigmas[:, None, None, None] * normal(2, 0, torch.arange(4), (3, 4, 4))
    weights = posterior_weights(points.split(size), x, sigmas)
    apart = (x.double()[:, None] - points.double()).flatten(2).square().sum(2)
    torch.testing.assert_close(weights, torch.softmax(-apart / (2 * sigmas.double()[:, None] ** 2), 1))
    mean = (weights @ points.flatten(1).double()).reshape(x.shape).float()
    torch.testing.assert_close(mean, finite_denoiser(points)(x, sigmas))


def test_a_picture_that_the_ideal_denoiser_draws_has_its_training_picture_on_its_way(
    cautious: Path, drawings: Path, cache: Path
) -> None:
    pipeline, data = opened(cautious, drawings, cache)
    codec = pipeline.codec
    own = int(data.seen[7])
    x0 = codec.encode(data.squares(torch.tensor([own]), 16))
    sigmas = torch.tensor([20.0, 5.0, 1.0, 0.2], dtype=torch.float64)
    x = torch.cat([x0 + float(sigma) * normal(3, 0, 0, tuple(x0.shape[1:])) for sigma in sigmas])
    origins = find_origins(data, codec, Way(x, sigmas, x0[0]), 5)
    assert len(origins) == 5
    assert origins[0].picture == own
    assert origins[0].share > 0.25
    assert origins[0].decided is not None
    assert origins[0].decided >= 0.2
    assert [o.share for o in origins] == sorted((o.share for o in origins), reverse=True)
    assert sum(o.share for o in find_origins(data, codec, Way(x, sigmas, x0[0]), 1000)) == pytest.approx(1)


def test_a_way_is_that_of_the_picture_that_is_generated(cautious: Path, drawings: Path, cache: Path) -> None:
    pipeline, _ = opened(cautious, drawings, cache)
    request = pipeline.request(["a red circle", "a blue square"], seeds=[5, 6], steps=3)
    ways = finished(draw_way(pipeline, request))
    expected = [pipeline.generate(c, seeds=[s], steps=3)[0] for c, s in (("a red circle", 5), ("a blue square", 6))]
    assert [pipeline.pictures(way.result[None])[0].tobytes() for way in ways] == [p.tobytes() for p in expected]
    assert all(len(way.sigmas) == len(way.x) for way in ways)
    assert bool((ways[0].sigmas.diff() < 0).all())
