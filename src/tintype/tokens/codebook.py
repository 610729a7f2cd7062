"""The codebook: square patches of pictures <-> tokens, by the nearest of a fixed number of patches (codes).

Vector quantization without a network: k-means on the patches of the training pictures (Lloyd 1982, "Least squares
quantization in PCM"). Models that write pictures as tokens usually learn a network for it (van den Oord et al. 2017,
arXiv 1711.00937); patches of drawn shapes need none.
"""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from tintype.diffusion.noise import Purpose, permutation, uniform

MOST_FREQUENT = 0.01  # share of the codes that start at the most frequent patches, such as plain backgrounds
ITERATIONS = 12
CHUNK = 8192  # patches that are compared with all codes at once


def patches_of(pictures: Tensor, patch: int) -> Tensor:
    """Pictures uint8 [B, 3, H, W] -> their patches row by row, uint8 [B, T, 3 * patch * patch]."""
    batch, channels, height, width = pictures.shape
    grid = pictures.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch**2)


def pictures_of_patches(patches: Tensor, patch: int, side: int) -> Tensor:
    """Patches uint8 [B, T, 3 * patch * patch] -> square pictures uint8 [B, 3, H, W] of `side` patches a side."""
    grid = patches.reshape(len(patches), side, side, -1, patch, patch)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), -1, side * patch, side * patch)


class Codebook:
    """Codes uint8 [V, 3 * patch * patch], the patch that each token stands for; the most frequent come first."""

    def __init__(self, codes: Tensor, patch: int, side: int) -> None:
        self.codes = codes
        self._patch = patch
        self._side = side
        self._centers = codes.float()

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures uint8 [B, 3, H, W] -> tokens int64 [B, T]: of each patch the nearest code."""
        patches = patches_of(pictures, self._patch)
        return nearest(patches.flatten(0, 1).float(), self._centers)[0].reshape(patches.shape[:2])

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [B, T] -> pictures uint8 [B, 3, H, W]."""
        return pictures_of_patches(self.codes[tokens], self._patch, self._side)

    def to(self, device: torch.device) -> Codebook:
        """The same codebook on another device."""
        return Codebook(self.codes.to(device), self._patch, self._side)

    def sheet(self, columns: int = 64) -> Tensor:
        """All codes as one picture uint8 [3, H, W], `columns` in a row; what is left of the last row is black."""
        rows = -(-len(self.codes) // columns)
        cells = self.codes.new_zeros(rows * columns, self.codes.shape[1])
        cells[: len(self.codes)] = self.codes
        grid = cells.reshape(rows, columns, 3, self._patch, self._patch).permute(2, 0, 3, 1, 4)
        return grid.reshape(3, rows * self._patch, columns * self._patch)


def nearest(patches: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest center of each patch float [N, D], and its squared distance: int64 [N], float [N]."""
    half_squares = centers.square().sum(1) / 2
    tokens, distances = [], []
    for chunk in torch.split(patches, CHUNK):
        scores, closest = torch.addmm(half_squares, chunk, centers.T, alpha=-1).min(1)
        tokens.append(closest)
        distances.append((2 * scores + chunk.square().sum(1)).clamp(min=0))
    return torch.cat(tokens), torch.cat(distances)


def learn_codes(patches: Tensor, num: int, seed: int, iterations: int = ITERATIONS) -> Generator[float, None, Tensor]:
    """Learn `num` codes from patches uint8 [N, D] by k-means: a pure function of its arguments.

    Yields the mean squared error of a pixel value (0 to 255) before each iteration. Returns codes uint8 [V, D], the
    most frequent first; with fewer different patches than `num`, those are the first codes and the rest repeats them.
    """
    distinct, counts = torch.unique(patches, dim=0, return_counts=True)
    points, weights = distinct.float(), counts.float()
    centers = points[_starts(weights, num, seed)]
    for iteration in range(iterations):
        tokens, distances = nearest(points, centers)
        errors = distances * weights
        yield float(errors.sum() / weights.sum() / points.shape[1])
        sums = torch.zeros_like(centers).index_add_(0, tokens, points * weights[:, None])
        totals = torch.zeros(num).index_add_(0, tokens, weights)
        centers = sums / totals.clamp(min=1)[:, None]
        unused = (totals == 0).nonzero()[:, 0]
        if len(unused):  # they move to where the error is
            drawn = uniform(seed, Purpose.CODEBOOK, iteration + 1, len(unused))[0]
            ends = errors.double().cumsum(0)
            centers[unused] = points[torch.searchsorted(ends, drawn * ends[-1]).clamp(max=len(points) - 1)]
    codes = centers.round().clamp(0, 255)
    used = torch.zeros(num).index_add_(0, nearest(points, codes)[0], weights)
    ordered: Tensor = codes[torch.argsort(used, descending=True, stable=True)].to(torch.uint8)
    return ordered


def _starts(weights: Tensor, num: int, seed: int) -> Tensor:
    """The points that k-means starts from: some of the most frequent ones, the others at random, int64 [num]."""
    frequent = torch.argsort(weights, descending=True, stable=True)[: max(1, int(MOST_FREQUENT * num))]
    others = permutation(seed, Purpose.CODEBOOK, 0, len(weights)).cpu()
    others = others[~torch.isin(others, frequent)]
    starts = torch.cat([frequent, others])
    return starts[torch.arange(num) % len(starts)]
