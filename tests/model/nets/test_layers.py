"""Building blocks against reference formulas and the properties they are chosen for."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tintype.model.nets.layers import Attention, ConvBlock, attend, rms_norm, rotary_embedding, rotate, sinusoids


def test_rms_norm_is_the_reference_and_has_its_gradient() -> None:
    x = torch.randn(5, 7, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    torch.testing.assert_close(rms_norm(x), F.rms_norm(x, (12,), eps=1e-6))
    assert torch.autograd.gradcheck(rms_norm, (x,))


def test_rms_norm_of_nothing_is_nothing() -> None:
    assert torch.equal(rms_norm(torch.zeros(2, 3)), torch.zeros(2, 3))


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_rotary_products_depend_on_the_offset_only(row: int, column: int, down: int, right: int) -> None:
    draw = torch.Generator().manual_seed(1)
    query, key = torch.randn(2, 1, 1, 1, 16, generator=draw)
    turns = rotary_embedding(torch.cartesian_prod(torch.arange(11), torch.arange(11)), 16)

    def turned(x: torch.Tensor, at_row: int, at_column: int) -> torch.Tensor:
        index = at_row * 11 + at_column
        return rotate(x, turns[index : index + 1])

    moved = (turned(query, row, column) * turned(key, row + down, column + right)).sum()
    origin = (turned(query, 0, 0) * turned(key, down, right)).sum()
    torch.testing.assert_close(moved, origin, atol=1e-4, rtol=1e-4)


def test_rotation_keeps_lengths() -> None:
    x = torch.randn(2, 9, 3, 8, generator=torch.Generator().manual_seed(2))
    turned = rotate(x, rotary_embedding(torch.cartesian_prod(torch.arange(3), torch.arange(3)), 8))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_attention_is_softmax_of_scaled_normalized_products() -> None:
    torch.manual_seed(3)
    layer = Attention(8, 2).double()
    x = torch.randn(1, 5, 8, dtype=torch.float64)
    query, key, value = layer.qkv(x).view(1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    scores = (rms_norm(query) @ rms_norm(key).transpose(-1, -2)) / math.sqrt(4)
    expected = layer.out((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x), expected)


def test_attention_in_bfloat16_is_that_of_float32_but_for_rounding() -> None:
    draw = torch.Generator().manual_seed(5)
    query, key, value = (torch.randn(2, 3, size, 8, generator=draw, requires_grad=True) for size in (4, 6, 6))
    mask = torch.ones(2, 1, 1, 6, dtype=torch.bool)
    mask[1, ..., 4:] = False
    expected = attend(query, key, value, mask)
    wanted = torch.autograd.grad(expected.sum(), (query, key, value))
    with torch.autocast("cpu", torch.bfloat16):
        attended = attend(query, key, value, mask)
    torch.testing.assert_close(attended.float(), expected, atol=3e-2, rtol=3e-2)
    for got, want in zip(torch.autograd.grad(attended.float().sum(), (query, key, value)), wanted, strict=True):
        torch.testing.assert_close(got, want, atol=6e-2, rtol=6e-2)


def test_masked_tokens_are_not_seen() -> None:
    torch.manual_seed(4)
    layer = Attention(8, 2)
    x = torch.randn(1, 5, 8)
    other = x.clone()
    other[:, 3:] += 10
    mask = torch.tensor([True, True, True, False, False])[None, None, None]
    torch.testing.assert_close(layer(x, mask=mask)[:, :3], layer(other, mask=mask)[:, :3])


def test_a_fresh_convolution_block_is_the_identity() -> None:
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(ConvBlock(16, 4)(x, torch.randn(2, 4)), x)


def test_sinusoids_of_different_values_differ() -> None:
    values = torch.linspace(-1, 1.2, 100)
    features = sinusoids(values, 64, 0.5, 30.0)
    assert features.shape == (100, 64)
    distances = torch.cdist(features, features) + torch.eye(100) * 10
    assert distances.min() > 0.5
