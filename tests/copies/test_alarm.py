"""The alarm: planted copies are found, pictures that cannot be copies seldom raise it, twins do not silence it."""

from __future__ import annotations

import pytest
import torch
from tests.copies.test_index import scenes

from tintype.copies.alarm import CopyAlarm, _alarm, calibrate, count_copies
from tintype.copies.index import Nearest, PictureIndex
from tintype.copies.planted import CHANGES, planted
from tintype.diffusion.noise import normal


def alike(first: int, num: int) -> torch.Tensor:
    """Pictures of 25 kinds, each near the others of its kind."""
    kinds = scenes(10_000, 25)[torch.arange(first, first + num) % 25].float() - 128
    return ((0.9 * kinds + 0.45 * (scenes(first, num).float() - 128)) + 128).clamp(0, 255).to(torch.uint8)


def resaved(pictures: torch.Tensor) -> torch.Tensor:
    """Smaller, and with other levels, as another program might save them."""
    smaller = torch.nn.functional.interpolate(pictures.float(), size=40, mode="area")
    noisy = smaller + 3 * normal(0, 0, torch.arange(len(pictures)), (3, 40, 40))
    return torch.nn.functional.interpolate(noisy, size=48, mode="bilinear").clamp(0, 255).to(torch.uint8)


TRAINING, NEW = alike(0, 150), alike(2000, 120)


@pytest.fixture(scope="module")
def index() -> PictureIndex:
    return PictureIndex.of([TRAINING])


@pytest.fixture(scope="module")
def alarm(index: PictureIndex) -> CopyAlarm:
    return calibrate(index, NEW, TRAINING[:48])


def test_copies_are_found_and_new_pictures_are_not(index: PictureIndex, alarm: CopyAlarm) -> None:
    assert count_copies(planted(TRAINING[90:138], 7), index, alarm) >= 0.85 * 48
    assert count_copies(alike(5000, 100), index, alarm) <= 0.03 * 100
    assert alarm.found > 0.9
    assert alarm.rate <= 0.01
    assert (alarm.num, alarm.num_twins) == (120, 0)


@pytest.mark.parametrize("form", ["resaved", "mirrored"])
def test_twins_of_held_out_pictures_do_not_silence_the_alarm(index: PictureIndex, alarm: CopyAlarm, form: str) -> None:
    twins = resaved(TRAINING[50:80]) if form == "resaved" else TRAINING[50:80].flip(-1)
    leaky = calibrate(index, torch.cat([NEW, twins]), TRAINING[:48])
    assert leaky.num_twins >= 28
    assert leaky.limit == pytest.approx(alarm.limit, rel=0.1)
    copies = planted(TRAINING[90:138], 9)
    assert count_copies(copies, index, leaky) >= 0.9 * count_copies(copies, index, alarm)


@pytest.mark.parametrize(("num", "allowed"), [(98, 0), (99, 1), (399, 4)])
def test_the_limit_has_the_rank_of_a_conformal_test_where_copies_look_like_new_pictures(num: int, allowed: int) -> None:
    held_out, copies = torch.rand(num, generator=torch.Generator().manual_seed(num)), torch.ones(100)
    alarm = _alarm(held_out, copies, 0)
    assert int((held_out.double() <= alarm.limit).sum()) == allowed
    assert alarm.rate == pytest.approx(allowed / num)
    assert alarm.found == 0
    assert _alarm(held_out + 2, copies, 0).found == 1
    assert _alarm(held_out + 2, torch.arange(1, 101) / 100, 0).limit == pytest.approx(0.95)


def test_without_pictures_there_is_no_alarm(index: PictureIndex) -> None:
    silent = calibrate(index, TRAINING[:0], TRAINING[:12])
    assert not bool(silent.raised(Nearest(torch.zeros(2), torch.zeros(2), torch.zeros(2))).any())


def test_every_change_changes_its_pictures_and_no_others() -> None:
    pictures = scenes(0, 12)
    changed, again = planted(pictures, 1), planted(pictures, 1)
    assert torch.equal(changed, again)
    assert not torch.equal(changed, planted(pictures, 2))
    assert bool((changed != pictures).flatten(1).any(1).all())
    mirrors = [number for number in range(12) if torch.equal(changed[number], pictures[number].flip(-1))]
    assert mirrors == [CHANGES.index("mirror"), CHANGES.index("mirror") + 6]
