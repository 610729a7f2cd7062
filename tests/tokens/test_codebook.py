"""The codebook: patches and pictures are each other's inverse, k-means finds known clusters, and codes keep codes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tintype.tokens.codebook import Codebook, learn_codes, nearest, patches_of, pictures_of_patches


def learned(patches: Tensor, num: int, seed: int = 0) -> tuple[Tensor, list[float]]:
    errors, learning = [], learn_codes(patches, num, seed)
    while True:
        try:
            errors.append(next(learning))
        except StopIteration as end:
            return end.value, errors


@given(st.integers(1, 3), st.sampled_from([(8, 2), (8, 4), (12, 3)]))
def test_patches_are_the_picture_in_another_order(num: int, sizes: tuple[int, int]) -> None:
    side, patch = sizes
    pictures = torch.randint(0, 256, (num, 3, side, side), dtype=torch.uint8)
    patches = patches_of(pictures, patch)
    assert torch.equal(pictures_of_patches(patches, patch, side // patch), pictures)
    assert torch.equal(patches[0, 1], pictures[0, :, :patch, patch : 2 * patch].flatten())  # row by row


def test_a_picture_made_of_codes_comes_back_exactly() -> None:
    codes = torch.randperm(256)[:20, None].expand(20, 12).to(torch.uint8).contiguous()
    codebook = Codebook(codes, 2, 4)
    tokens = torch.randint(0, 20, (5, 16))
    assert torch.equal(codebook.encode(codebook.decode(tokens)), tokens)


def test_a_patch_becomes_the_nearest_code() -> None:
    codes = torch.tensor([[0] * 12, [100] * 12, [255] * 12], dtype=torch.uint8)
    picture = torch.full((1, 3, 2, 2), 180, dtype=torch.uint8)
    assert Codebook(codes, 2, 1).encode(picture).tolist() == [[2]]
    tokens, distances = nearest(torch.full((1, 12), 90.0), codes.float())
    assert tokens.tolist() == [1]
    assert distances.tolist() == [pytest.approx(12 * 10**2)]


def test_k_means_finds_the_clusters_that_are_there() -> None:
    centers = torch.tensor([20, 120, 220])
    noise = torch.randint(-3, 4, (600, 12), generator=torch.Generator().manual_seed(0))
    members = torch.tensor([0] * 300 + [1] * 200 + [2] * 100)
    codes, errors = learned((centers[members, None] + noise).to(torch.uint8), 12)
    assert (codes.float().mean(1)[:, None] - centers).abs().amin(0).max() < 3
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 4  # the variance of the noise


def test_the_most_frequent_code_comes_first() -> None:
    values = torch.tensor([9] * 5 + [70] * 50 + [200] * 20, dtype=torch.uint8)
    codes, _ = learned(values[:, None].expand(-1, 12).contiguous(), 3)
    assert codes[:, 0].tolist() == [70, 200, 9]


def test_learning_is_a_function_of_patches_and_seed() -> None:
    patches = torch.randint(0, 256, (500, 12), dtype=torch.uint8)
    first = learned(patches, 40, seed=3)[0]
    assert torch.equal(learned(patches, 40, seed=3)[0], first)
    assert not torch.equal(learned(patches, 40, seed=4)[0], first)


def test_fewer_patches_than_codes_are_all_kept() -> None:
    patches = torch.arange(5, dtype=torch.uint8)[:, None].expand(5, 12).repeat(3, 1)
    codes, _ = learned(patches, 16)
    assert len(codes) == 16
    assert set(codes[:, 0].tolist()) == set(range(5))
    assert float(nearest(patches.float(), codes.float())[1].sum()) == 0


def test_the_sheet_has_code_c_at_its_place() -> None:
    codes = torch.arange(70, dtype=torch.uint8)[:, None].expand(70, 12).contiguous()
    sheet = Codebook(codes, 2, 4).sheet()
    assert sheet.shape == (3, 4, 128)
    assert sheet[0, 0, 2 * 5].item() == 5
    assert sheet[2, 3, 2 * 3 + 1].item() == 67
    assert sheet[0, 2, 2 * 6].item() == 0
