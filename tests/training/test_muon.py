"""Muon turns every update into an orthogonal matrix of a fixed size, whatever the size of the gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tintype.training.core.muon import ADAM_RMS, Muon, orthogonalized


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_the_singular_values_come_near_one(rows: int, columns: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    u, _, v = torch.linalg.svd(torch.randn(rows, columns, generator=generator), full_matrices=False)
    values = torch.linspace(1.0, 0.1, u.shape[1])
    singular_values = torch.linalg.svdvals(orthogonalized(scale * (u * values) @ v))
    assert singular_values.min() > 0.6
    assert singular_values.max() < 1.3


def test_in_bfloat16_singular_values_come_near_one_too() -> None:
    matrices = torch.randn(3, 64, 24, generator=torch.Generator().manual_seed(1))
    orthogonal = orthogonalized(matrices, bf16=True).float()
    singular_values = torch.linalg.svdvals(orthogonal)
    assert singular_values.min() > 0.6
    assert singular_values.max() < 1.3
    exact = orthogonalized(matrices)
    assert (orthogonal * exact).sum() / (orthogonal.norm() * exact.norm()) > 0.999


def test_the_singular_vectors_stay() -> None:
    matrix = torch.diag(torch.tensor([3.0, 1.0, 0.5]))
    orthogonal = orthogonalized(matrix)
    assert torch.allclose(orthogonal, torch.diag(orthogonal.diagonal()), atol=1e-6)
    assert (orthogonal.diagonal() > 0).all()


def test_a_stack_is_done_matrix_by_matrix() -> None:
    matrices = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(
        orthogonalized(matrices), torch.stack([orthogonalized(matrix) for matrix in matrices]), atol=1e-5
    )


def test_the_parts_of_a_stacked_matrix_are_made_orthogonal_each_on_its_own() -> None:
    matrices = torch.randn(2, 12, 4, generator=torch.Generator().manual_seed(0))
    orthogonal = orthogonalized(matrices, num_stacked=3)
    assert orthogonal.shape == matrices.shape
    for number in range(3):
        rows = slice(4 * number, 4 * number + 4)
        assert torch.allclose(orthogonal[:, rows], orthogonalized(matrices[:, rows].contiguous()), atol=1e-5)


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 1.0), (1.0, 1e-3, 1e3)])
def test_a_weak_part_of_a_stacked_weight_moves_as_far_as_the_others(sizes: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(48, 16))
    weight.grad = torch.cat([size * torch.randn(16, 16) for size in sizes])
    Muon([{"params": [weight], "num_stacked": 3}], lr=0.01, weight_decay=0.0).step()
    for part in weight.detach().chunk(3):
        assert float(part.square().mean().sqrt()) == pytest.approx(0.01 * ADAM_RMS, rel=0.3)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_process_without_a_matrix_of_its_own_computes_none(bf16: bool) -> None:
    for parts in (1, 3):
        assert orthogonalized(torch.zeros(0, 6, 4), num_stacked=parts, bf16=bf16).shape == (0, 6, 4)


def test_no_gradient_at_all_is_no_update() -> None:
    assert torch.equal(orthogonalized(torch.zeros(4, 4)), torch.zeros(4, 4))


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_size_of_an_update_does_not_depend_on_the_gradient(size: float) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 16, 3, bias=False)
    before = layer.weight.detach().clone()
    optimizer = Muon([layer.weight], lr=0.01, weight_decay=0.0)
    layer.weight.grad = size * torch.randn_like(layer.weight)
    optimizer.step()
    update = (layer.weight - before).detach()
    assert float(update.square().mean().sqrt()) == pytest.approx(0.01 * ADAM_RMS, rel=0.3)


def test_weights_fall_by_the_decay() -> None:
    layer = nn.Conv2d(16, 16, 1, bias=False)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.zeros_like(layer.weight)
    Muon([layer.weight], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(layer.weight, 0.95 * before)


def test_momentum_is_what_is_remembered() -> None:
    layer = nn.Conv2d(16, 16, 1, bias=False)
    optimizer = Muon([layer.weight], lr=0.1, weight_decay=0.0, momentum=0.9)
    for _ in range(2):
        layer.weight.grad = torch.ones_like(layer.weight)
        optimizer.step()
    assert torch.allclose(optimizer.state[layer.weight]["momentum_buffer"], torch.full_like(layer.weight, 0.19))
