"""The picture index against a search by hand, and what its distance passes over."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tintype.copies.index import PictureIndex, thumbnails, views
from tintype.diffusion.noise import normal


def scenes(first: int, num: int, side: int = 48) -> Tensor:
    """Smooth random pictures: uint8 [num, 3, side, side]."""
    coarse = normal(5, 0, torch.arange(first, first + num), (3, 6, 6))
    x = torch.nn.functional.interpolate(coarse, size=side, mode="bicubic")
    return ((x * 40) + 128).round().clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def index() -> PictureIndex:
    return PictureIndex.of(scenes(0, 90).split(64))


def test_the_nearest_is_that_of_all_pairs_and_views(index: PictureIndex) -> None:
    queries, points = scenes(500, 4), scenes(0, 90)

    def described(small: Tensor) -> Tensor:
        x = small.double() / 127.5
        x = x - x.mean((2, 3), keepdim=True)
        return (x / (x.square().mean((2, 3), keepdim=True).sqrt() + 0.05)).flatten(1)

    seen, known = views(queries), described(thumbnails(points))
    assert len(seen) == 50
    apart = torch.stack([torch.cdist(described(view), known) for view in seen]).min(0).values / 768**0.5
    nearest = index.nearest(queries)
    assert torch.equal(nearest.indices, apart.argmin(1))
    torch.testing.assert_close(nearest.distance.double(), apart.min(1).values, rtol=1e-3, atol=0)
    around = apart.topk(20, largest=False).values.mean(1)
    torch.testing.assert_close(nearest.relative.double(), apart.min(1).values / around, rtol=1e-2, atol=0)


@pytest.mark.parametrize("change", ["mirrored", "shifted", "brighter", "tinted", "larger"])
def test_a_picture_is_found_however_it_is_changed(index: PictureIndex, change: str) -> None:
    pictures = scenes(20, 10)
    changed = {
        "mirrored": lambda: pictures.flip(-1),
        "shifted": lambda: torch.nn.functional.pad(pictures.float(), (3, 0, 0, 0), mode="replicate")[..., :48].to(
            torch.uint8
        ),
        "brighter": lambda: (pictures.float() * 0.6 + 70).to(torch.uint8),
        "tinted": lambda: (pictures.float() * torch.tensor([0.5, 0.9, 0.7])[:, None, None]).to(torch.uint8),
        "larger": lambda: pictures.repeat_interleave(2, -1).repeat_interleave(2, -2),
    }[change]()
    nearest = index.nearest(changed)
    assert torch.equal(nearest.indices, torch.arange(20, 30))
    assert float(nearest.relative.max()) < 0.5 * float(index.nearest(scenes(500, 20)).relative.min())


def test_the_same_pictures_are_at_distance_0_and_may_be_passed_over(index: PictureIndex) -> None:
    own = torch.arange(20)
    same, other = index.nearest(index.thumbnails[own]), index.nearest(index.thumbnails[own], own)
    assert torch.equal(same.indices, own)
    assert float(same.distance.max()) == float(same.relative.max()) == 0
    assert float(index.nearest(scenes(0, 20)).relative.max()) < 0.05  # a thumbnail has whole levels
    assert bool((other.indices != own).all())
    assert bool((other.distance > 0).all())


def test_a_further_picture_is_seen_by_its_query_alone(index: PictureIndex) -> None:
    queries = scenes(500, 8)
    plain, nearest = index.nearest(queries), index.nearest(queries, further=queries.flip(-1).roll(2, 0))
    assert torch.equal(nearest.distance, plain.distance)
    nearest = index.nearest(queries, further=queries.flip(-1))
    assert bool((nearest.indices == -1).all())
    assert float(nearest.relative.max()) < 0.05


def test_blocks_of_queries_change_nothing(index: PictureIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = index.nearest(scenes(300, 20), torch.arange(20))
    monkeypatch.setattr("tintype.copies.index.MAX_COMPARED", 90 * 7)
    parts = index.nearest(scenes(300, 20), torch.arange(20))
    torch.testing.assert_close(parts.distance, whole.distance)
    assert torch.equal(parts.indices, whole.indices)


def test_few_pictures_and_none() -> None:
    with pytest.raises(ValueError, match="needs pictures"):
        PictureIndex(torch.empty(0, 3, 16, 16, dtype=torch.uint8))
    alone = PictureIndex.of([scenes(0, 1)])
    assert alone.nearest(scenes(9, 2)).indices.tolist() == [0, 0]
    assert len(alone.nearest(scenes(9, 2)[:0]).indices) == 0
