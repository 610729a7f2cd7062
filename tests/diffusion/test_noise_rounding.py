"""Normals to the last bit: the arithmetic that is written down, in NumPy, and the root that a CPU rounds otherwise."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tintype.diffusion import noise
from tintype.diffusion.noise import Purpose, normal, permutation, rounded_sqrt, uniform

Floats = NDArray[np.float32]
SEED, INDEX, NUM = 5, 7, 8192
# sha256 of the correctly rounded normals, little-endian, of (SEED, START, INDEX).
KNOWN = "f795fb5d7db5b7a1d9e43bef0f7d8c376be4e285944abcb52c16bb0f80beaf31"


def horner(x: Floats, coefficients: tuple[float, ...]) -> Floats:
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + np.float32(coefficient)
    return total


def minus_two_log(word: NDArray[np.int64]) -> Floats:
    """-2 ln((word + 1/2) / 2^32): the mantissa near 1 by the series of artanh, the exponent apart."""
    mantissa, exponent = np.frexp(word.astype(np.float32) + np.float32(0.5))
    low = mantissa < np.float32(math.sqrt(0.5))
    mantissa, exponent = np.where(low, 2 * mantissa, mantissa), np.where(low, exponent - 1, exponent)
    s = (mantissa - np.float32(1)) / (mantissa + np.float32(1))
    series = horner(s * s, (2 / 9, 2 / 7, 2 / 5, 2 / 3, 2.0)) * s
    return np.maximum((32 - exponent).astype(np.float32) * np.float32(2 * math.log(2)) - 2 * series, np.float32(0))


def cos_sin(word: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Of (word + 1/2) / 2^32 - 1/8 turns: quarters exactly, then the Taylor series."""
    quarter = word >> 30
    angle = (((word & 0x3FFFFFFF) - 0x20000000).astype(np.float32) + np.float32(0.5)) * np.float32(2 * math.pi / 2**32)
    square = angle * angle
    cosine = horner(square, (1 / 40320, -1 / 720, 1 / 24, -1 / 2, 1.0))
    sine = horner(square, (1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1.0)) * angle
    turned = [(cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine)]
    choices = [quarter == q for q in range(4)]
    return np.select(choices, [c for c, _ in turned]), np.select(choices, [s for _, s in turned])


def written_down(root: Callable[[Floats], Floats]) -> Floats:
    """The normals of (SEED, START, INDEX), [NUM], by the formulas of Box and Muller as the module documents them."""
    blocks = torch.arange(NUM // 4)
    counter = (blocks, *(torch.tensor(word) for word in (INDEX, 0, int(Purpose.START))))
    words = [w.numpy() for w in noise.philox(counter, (torch.tensor(SEED), torch.tensor(0)))]
    columns: list[Floats] = []
    for a, b in ((words[0], words[1]), (words[2], words[3])):
        radius = root(minus_two_log(a))
        columns += [radius * part for part in cos_sin(b)]
    return np.stack(columns, axis=-1).reshape(-1)


def torch_root(x: Floats) -> Floats:
    root: Floats = torch.sqrt(torch.from_numpy(x)).numpy()
    return root


def test_the_normals_of_a_cpu_are_those_that_were_always_drawn() -> None:
    drawn = normal(SEED, Purpose.START, INDEX, (NUM,))[0].numpy()
    assert np.array_equal(drawn, written_down(torch_root))
    rounded = written_down(np.sqrt)
    ulps = np.abs(drawn.view(np.int32).astype(np.int64) - rounded.view(np.int32))
    assert ulps.max() <= 2  # one of the root, and one of the product


def test_correctly_rounded_normals_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "_sqrt", rounded_sqrt)
    drawn = normal(SEED, Purpose.START, INDEX, (NUM,))[0].numpy()
    assert np.array_equal(drawn, written_down(np.sqrt))
    assert hashlib.sha256(drawn.astype("<f4").tobytes()).hexdigest() == KNOWN


def test_the_rounded_root_is_that_of_integer_arithmetic() -> None:
    bits = torch.randint(0, 0x7F800000, (2000,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    x = torch.cat([bits.view(torch.float32), torch.tensor([0.0, 1.0, 4.0, 2.0**-149, 16777215.0, 2 * math.log(2**33)])])
    for value, root in zip(x.tolist(), rounded_sqrt(x).tolist(), strict=True):
        # The interval that rounds to `root`, squared in whole numbers: no tie is a root of 24 bits.
        below, above = (np.nextafter(np.float32(root), np.float32(end)) for end in (-np.inf, np.inf))
        low, high = (float(root) + float(below)) / 2, (float(root) + float(above)) / 2
        exact = [int(math.ldexp(number, 400)) for number in (max(low, 0.0), high)]
        assert exact[0] ** 2 <= int(math.ldexp(value, 800)) <= exact[1] ** 2


@pytest.mark.gpu
def test_draws_of_a_gpu_are_correctly_rounded_and_those_of_a_cpu_to_a_unit(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = torch.arange(INDEX, INDEX + 64)
    here = normal(SEED, Purpose.START, index, (3, 64, 64))
    assert torch.equal(uniform(SEED, Purpose.CROP, index.to(gpu), 9).cpu(), uniform(SEED, Purpose.CROP, index, 9))
    if gpu.type == "cpu":
        monkeypatch.setattr(noise, "_sqrt", rounded_sqrt)
    there = normal(SEED, Purpose.START, index.to(gpu), (3, 64, 64)).cpu()
    ulps = (there.view(torch.int32).long() - here.view(torch.int32)).abs()
    assert ulps.max() <= 2
    assert np.array_equal(there.flatten(1)[0, :NUM].numpy(), written_down(np.sqrt))
    assert torch.equal(permutation(SEED, Purpose.ORDER, 0, 100).sort().values, torch.arange(100))
