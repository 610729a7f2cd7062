"""Draws: the published generator, the right distributions, dependent on nothing but seed, purpose and index."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tintype.diffusion.noise import (
    MASK,
    Purpose,
    add_noise,
    normal,
    permutation,
    philox,
    sigma_of,
    slerp,
    step_noise,
    uniform,
)

GOLDEN = (math.sqrt(5) - 1) / 2


def philox_in_integers(counter: list[int], key: list[int]) -> list[int]:
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


# The known answers that Random123 ships for philox4x32-10 (kat_vectors).
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([MASK] * 4, [MASK] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_published_answers(counter: list[int], key: list[int], answer: list[int]) -> None:
    c0, c1, c2, c3 = (torch.tensor([word]) for word in counter)
    words = philox((c0, c1, c2, c3), (torch.tensor([key[0]]), torch.tensor([key[1]])))
    assert [int(word) for word in words] == answer
    assert philox_in_integers(counter, key) == answer


word = st.integers(0, MASK)


@given(st.lists(word, min_size=4, max_size=4), st.lists(word, min_size=2, max_size=2))
@settings(deadline=None, max_examples=50)
def test_philox_equals_integer_arithmetic_for_any_words(counter: list[int], key: list[int]) -> None:
    c0, c1, c2, c3 = (torch.tensor([value]) for value in counter)
    words = philox((c0, c1, c2, c3), (torch.tensor([key[0]]), torch.tensor([key[1]])))
    assert [int(value) for value in words] == philox_in_integers(counter, key)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 1), st.sampled_from(list(Purpose)))
@settings(deadline=None, max_examples=30)
def test_draws_are_those_of_the_documented_counter(seed: int, index: int, purpose: Purpose) -> None:
    blocks = [
        philox_in_integers([block, index & MASK, index >> 32, purpose], [seed & MASK, seed >> 32]) for block in (0, 1)
    ]
    expected = [((a << 20 | b >> 12) + 0.5) / 2**52 for c in blocks for a, b in (c[:2], c[2:])]
    assert uniform(seed, purpose, index, 4)[0].tolist() == expected
    normals = []
    for a, b in [pair for c in blocks for pair in (c[:2], c[2:])]:
        radius = math.sqrt(-2 * math.log((a + 0.5) / 2**32))
        angle = 2 * math.pi * ((b + 0.5) / 2**32 - 1 / 8)
        normals += [radius * math.cos(angle), radius * math.sin(angle)]
    assert normal(seed, purpose, index, (8,))[0].tolist() == pytest.approx(normals, rel=1e-5, abs=3e-5)


def test_purpose_numbers_are_fixed_for_ever() -> None:
    numbers = {purpose.name: purpose.value for purpose in Purpose}
    assert numbers == {
        "NOISE": 0,
        "SIGMA": 1,
        "CROP": 2,
        "FLIP": 3,
        "CAPTION": 4,
        "DROPOUT": 5,
        "ORDER": 6,
        "START": 7,
        "STEP": 8,
        "INIT": 9,
        "EVALUATE": 10,
        "SHAPES": 11,
        "MEASURED": 12,
        "SHUFFLE": 13,
        "RESAMPLE": 14,
        "PAIRED": 15,
        "SEGMENT": 16,
        "CODEBOOK": 17,
        "TOKEN": 18,
        "HALF_SIZE": 19,
        "WEIGHT": 20,
        "BLOCK": 21,
        "AUGMENT": 22,
        "FEATURES": 23,
        "TEXT": 24,
        "PLANTED": 25,
        "PLANTED_NOISE": 26,
        "TURN": 28,
    }


def test_normals_are_normal() -> None:
    z = normal(0, Purpose.NOISE, torch.arange(64), (3, 32, 32)).double().flatten()
    n = len(z)
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs(z.pow(power).mean() - moment) < 4 * math.sqrt(variance / n)
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3
    assert 4 < z.abs().max() < 6.8


def test_uniforms_are_uniform_and_inside_the_open_interval() -> None:
    u = uniform(0, Purpose.CROP, torch.arange(1000), 50).flatten()
    assert u.dtype == torch.float64
    assert 0 < u.min() < 1e-3
    assert 1 - 1e-3 < u.max() < 1
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3


def test_draws_of_other_seeds_purposes_indices_and_neighbors_are_unrelated() -> None:
    num = 40_000
    rows = [
        normal(seed, purpose, index, (num,))[0]
        for seed, purpose, index in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**32, 0, 0), (0, 0, 2**32)]
    ]
    rows.append(rows[0].roll(1))
    rows.append(rows[0].roll(2))
    correlation = torch.corrcoef(torch.stack(rows)) - torch.eye(len(rows))
    assert correlation.abs().max() < 5 / math.sqrt(num)
    squares = torch.corrcoef(torch.stack(rows).square()) - torch.eye(len(rows))
    assert squares.abs().max() < 5 / math.sqrt(num)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=9), st.integers(1, 70), st.integers(0, 2**63 - 1))
@settings(deadline=None, max_examples=30)
def test_a_row_depends_on_its_own_numbers_only(indices: list[int], num: int, seed: int) -> None:
    index = torch.tensor(indices)
    seeds = torch.full_like(index, seed)
    for draw in (
        lambda s, i: normal(s, Purpose.NOISE, i, (num, 3)),
        lambda s, i: uniform(s, Purpose.NOISE, i, num),
    ):
        batch = draw(seeds, index)
        assert torch.equal(batch, draw(seed, index))
        assert torch.equal(batch, torch.cat([draw(seed, one) for one in indices]))


def test_draws_do_not_depend_on_how_many_are_asked_for_or_on_threads() -> None:
    many = normal(5, Purpose.START, 7, (3, 65, 33))
    assert torch.equal(many.flatten()[:101], normal(5, Purpose.START, 7, (101,))[0])
    assert torch.equal(uniform(5, 0, 7, 9)[:, :4], uniform(5, 0, 7, 4))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        assert torch.equal(many, normal(5, Purpose.START, 7, (3, 65, 33)))
    finally:
        torch.set_num_threads(threads)


def test_each_row_may_have_its_own_seed() -> None:
    seeds = torch.tensor([3, 4])
    assert torch.equal(normal(seeds, 0, 6, (5,)), torch.cat([normal(3, 0, 6, (5,)), normal(4, 0, 6, (5,))]))


def test_nothing_touches_the_global_generator() -> None:
    before = torch.get_rng_state()
    normal(0, 0, 0, (4,))
    permutation(0, Purpose.ORDER, 0, 10)
    assert torch.equal(before, torch.get_rng_state())


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.integers(1, 300))
@settings(deadline=None, max_examples=30)
def test_permutation_is_one(seed: int, epoch: int, num: int) -> None:
    order = permutation(seed, Purpose.ORDER, epoch, num)
    assert torch.equal(order.sort().values, torch.arange(num))
    assert torch.equal(order, permutation(seed, Purpose.ORDER, epoch, num))


def test_permutations_are_random() -> None:
    orders = torch.stack([permutation(0, Purpose.ORDER, epoch, 6) for epoch in range(900)])
    counts = torch.stack([(orders == position).sum(0) for position in range(6)])
    assert stats.chisquare(counts.flatten().numpy()).pvalue > 1e-3


def test_step_noise_differs_by_draw_and_by_picture_but_not_by_batch() -> None:
    pair = step_noise(9, torch.tensor([0, 1]), (2, 3))
    alone = step_noise(9, 1, (2, 3))
    assert torch.equal(pair(4)[1:], alone(4))
    assert not torch.equal(alone(4), alone(5))
    assert not torch.equal(pair(0)[0], pair(0)[1])


def quantiles(seed: int, start: int, num: int) -> torch.Tensor:
    sigma = sigma_of(seed, torch.arange(start, start + num), 0.3, 1.4, 1e-9, 1e9)
    return torch.special.ndtr((sigma.double().log() - 0.3) / 1.4)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**50), st.integers(16, 512))
@settings(deadline=None, max_examples=50)
def test_any_run_of_noise_levels_is_evenly_spread(seed: int, start: int, num: int) -> None:
    u = quantiles(seed, start, num).sort().values
    rank = torch.arange(num, dtype=torch.float64)
    discrepancy = torch.maximum((u - rank / num).abs(), (u - (rank + 1) / num).abs()).max()
    # Golden-ratio sequences: N D <= 0.5 ln N + 2, roughly; independent draws are at sqrt(N).
    assert num * discrepancy < 0.5 * math.log(num) + 2


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**60))
@settings(deadline=None, max_examples=30)
def test_noise_levels_turn_by_the_golden_ratio_at_any_position(seed: int, start: int) -> None:
    turns = (quantiles(seed, start, 50).diff() - GOLDEN) % 1
    assert torch.minimum(turns, 1 - turns).max() < 1e-6


def test_noise_levels_over_seeds_are_log_normal_and_clamped() -> None:
    u = torch.cat([quantiles(seed, 12345, 1) for seed in range(500)])
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3
    sigma = sigma_of(0, torch.arange(4000), 0.0, 1.5, 0.1, 10.0)
    assert sigma.dtype == torch.float32
    assert sigma.min() == torch.tensor(0.1)
    assert sigma.max() == torch.tensor(10.0)
    assert sigma.log().median() == pytest.approx(0.0, abs=1e-2)
    assert torch.equal(sigma[17:23], sigma_of(0, torch.arange(17, 23), 0.0, 1.5, 0.1, 10.0))


def test_add_noise() -> None:
    x0, noise = torch.ones(2, 1, 2, 2), torch.full((2, 1, 2, 2), 2.0)
    x = add_noise(x0, noise, torch.tensor([0.5, 3.0]))
    assert x[0].unique().tolist() == [2.0]
    assert x[1].unique().tolist() == [7.0]


def test_noise_on_the_way_to_other_noise_is_as_strong_and_as_far_as_asked() -> None:
    first, second = (normal(seed, Purpose.START, torch.arange(6), (3, 16, 16)) for seed in (0, 1))
    share = torch.tensor([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
    mixed = slerp(first, second, share)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed[0], first[0])
    assert torch.equal(mixed[5], second[5])
    torch.testing.assert_close(mixed.flatten(1).std(1), torch.ones(6), rtol=0, atol=0.06)

    def angle(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.acos(torch.cosine_similarity(a.flatten(1).double(), b.flatten(1).double()))

    torch.testing.assert_close(
        angle(first, mixed)[1:], share[1:].double() * angle(first, second)[1:], rtol=0, atol=1e-3
    )
    assert torch.equal(slerp(first[3:4], second[3:4], share[3:4]), mixed[3:4])


def test_noise_on_the_way_to_itself_stays_itself() -> None:
    noise = normal(0, Purpose.START, torch.arange(2), (3, 4, 4))
    torch.testing.assert_close(slerp(noise, noise, torch.tensor([0.3, 0.7])), noise, rtol=1e-6, atol=1e-6)
