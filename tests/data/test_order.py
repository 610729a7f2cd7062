import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tintype.data.order import caption_at, crop_at, dropped_at, flip_at, sample_at
from tintype.data.split import is_held_out, name_hash


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**63 - 1), num=st.integers(1, 40), epoch=st.integers(0, 1000))
def test_every_epoch_shows_each_sample_once(seed: int, num: int, epoch: int) -> None:
    positions = torch.arange(epoch * num, (epoch + 1) * num)
    assert sample_at(seed, positions, num).sort().values.tolist() == list(range(num))


def test_epochs_and_seeds_differ() -> None:
    first, second = sample_at(0, torch.arange(200), 100).split(100)
    assert first.tolist() != second.tolist()
    assert sample_at(1, torch.arange(100), 100).tolist() != first.tolist()


def test_the_order_does_not_depend_on_how_positions_are_split() -> None:
    expected = sample_at(3, torch.arange(70), 11)
    parts = [sample_at(3, part, 11) for part in torch.arange(70).split(9)]
    alone = [int(sample_at(3, torch.tensor([k]), 11)) for k in range(70)]
    assert torch.cat(parts).tolist() == expected.tolist() == alone
    assert sample_at(3, torch.arange(70).flip(0), 11).flip(0).tolist() == expected.tolist()


@pytest.mark.parametrize(("positions", "num"), [([0], 0), ([-1], 5)])
def test_bad_arguments_are_refused(positions: list[int], num: int) -> None:
    with pytest.raises(ValueError):
        sample_at(0, torch.tensor(positions), num)


def test_draws_are_pure_and_of_the_right_shares() -> None:
    positions = torch.arange(20_000)
    for draw in (flip_at(5, positions), dropped_at(5, positions, 0.1)):
        assert draw.dtype == torch.bool
    assert abs(flip_at(5, positions).double().mean() - 0.5) < 0.02
    assert abs(dropped_at(5, positions, 0.1).double().mean() - 0.1) < 0.01
    assert not dropped_at(5, positions, 0.0).any()
    assert dropped_at(5, positions, 1.0).all()
    assert crop_at(5, positions).shape == (20_000, 2)
    assert torch.equal(crop_at(5, positions)[7:9], crop_at(5, positions[7:9]))
    choice = caption_at(5, positions)
    assert choice.dtype == torch.int64
    assert all(abs((choice % 5 == k).double().mean() - 0.2) < 0.02 for k in range(5))


def test_different_draws_are_independent() -> None:
    positions = torch.arange(20_000)
    together = (flip_at(5, positions) & dropped_at(5, positions, 0.5)).double().mean()
    assert abs(together - 0.25) < 0.02


def test_held_out_is_stable_and_of_the_right_share() -> None:
    names = [f"{i}.png" for i in range(20_000)]
    assert abs(sum(is_held_out(name, 0.03) for name in names) / 20_000 - 0.03) < 0.005
    assert not any(is_held_out(name, 0.0) for name in names)
    assert all(is_held_out(name, 1.0) for name in names[:50])
    assert name_hash("a.png") == pytest.approx(0.4962016, abs=1e-6)  # for ever
