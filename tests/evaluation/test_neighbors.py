"""Nearest pictures against a search of all pairs, and an alarm that finds copies and seldom cries wolf."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tintype.data.thread_pool import finished
from tintype.diffusion.noise import normal
from tintype.evaluation.neighbors import Nearest, calibrate_alarm, find_nearest


def world(first: int, num: int) -> Tensor:
    """Points near 40 centers, some clusters tight and some wide: [num, 24]."""
    centers, which = 3 * normal(1, 0, torch.arange(40), (24,)), torch.arange(first, first + num) % 40
    return centers[which] + (0.1 + 0.02 * which[:, None]) * normal(2, 0, torch.arange(first, first + num), (24,))


TRAINING, CALIBRATION, FRESH = world(0, 4000), world(4000, 1000), world(5000, 3000)


def found_for(queries: Tensor, size: int = 1024, own: Tensor | None = None) -> Nearest:
    return finished(find_nearest(queries, lambda: iter(TRAINING.split(size)), own))


@pytest.mark.parametrize("size", [5, 999, 4000])
def test_the_nearest_is_that_of_all_pairs_whatever_the_blocks(size: int) -> None:
    apart = torch.cdist(FRESH[:50].double(), TRAINING.double()) / 24**0.5
    nearest = found_for(FRESH[:50], size)
    assert torch.equal(nearest.indices, apart.argmin(1))
    torch.testing.assert_close(nearest.distance, apart.min(1).values, rtol=1e-5, atol=0)
    around = apart.topk(20, largest=False).values.mean(1)
    torch.testing.assert_close(nearest.relative, apart.min(1).values / around, rtol=1e-3, atol=0)


def test_a_point_may_not_find_itself() -> None:
    itself, another = found_for(TRAINING[:30]), found_for(TRAINING[:30], 512, torch.arange(30))
    assert torch.equal(itself.indices, torch.arange(30))
    assert bool((itself.distance == 0).all())
    assert bool((another.indices != torch.arange(30)).all())
    assert bool((another.distance > 0).all())


def test_a_point_beside_the_others_is_found_by_its_query_alone() -> None:
    beside = torch.full((20, 24), torch.nan)
    beside[:10] = FRESH[:10] + 1e-3
    plain = found_for(FRESH[:20])
    nearest = finished(find_nearest(FRESH[:20], lambda: iter(TRAINING.split(1024)), None, beside))
    assert bool((nearest.indices[:10] == -1).all())
    torch.testing.assert_close(nearest.distance[:10], torch.full((10,), 1e-3).double(), rtol=1e-2, atol=0)
    assert bool((nearest.relative[:10] < plain.relative[:10]).all())
    assert torch.equal(nearest.indices[10:], plain.indices[10:])
    torch.testing.assert_close(nearest.relative[10:], plain.relative[10:])


def alarm_of(num: int):  # type: ignore[no-untyped-def]
    """Calibrated on `num` unseen points in two views, the second of half the coordinates."""
    queries = CALIBRATION[:num]
    return calibrate_alarm(found_for(queries).relative, half(queries).relative)


def half(queries: Tensor) -> Nearest:
    return finished(find_nearest(queries[:, ::2], lambda: iter(TRAINING[:, ::2].split(1024))))


def test_copies_are_all_found_and_unseen_pictures_raise_the_alarm_at_its_rate() -> None:
    alarm = alarm_of(1000)
    assert 0.005 <= alarm.rate <= 0.01
    copies = TRAINING[::20]
    assert bool(alarm.raised(found_for(copies).relative, half(copies).relative).all())
    nearly = copies + 0.002 * normal(4, 0, torch.arange(len(copies)), (24,))
    assert bool(alarm.raised(found_for(nearly).relative, half(nearly).relative).all())
    raised = alarm.raised(found_for(FRESH).relative, half(FRESH).relative).double().mean()
    assert float(raised) == pytest.approx(0.01, abs=0.007)  # three standard deviations of both samples


def test_with_few_unseen_pictures_only_what_is_nearer_than_all_of_them_raises_it() -> None:
    alarm = alarm_of(50)
    assert alarm.rate == 0
    assert not bool(alarm.raised(found_for(CALIBRATION[:50]).relative, half(CALIBRATION[:50]).relative).any())
    assert bool(alarm.raised(found_for(TRAINING[:40]).relative, half(TRAINING[:40]).relative).all())


def test_without_unseen_pictures_there_is_no_alarm() -> None:
    alarm = calibrate_alarm(torch.empty(0), torch.empty(0))
    assert not bool(alarm.raised(torch.zeros(3), torch.zeros(3)).any())
