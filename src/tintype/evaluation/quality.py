"""How near the pictures of a model are to real ones as a whole, and how much of the real ones' variety they have."""

from __future__ import annotations

import torch
from torch import Tensor

from tintype.metrics.intervals import Estimate, jackknife, proportion

DIMENSIONS = 32  # of the space that distances are taken in: far fewer than there are samples
SPLITS = (1, 2, 3, 4)  # into which samples are parted to see how the distance shrinks with their number
MIN_SAMPLES = 2 * DIMENSIONS
RADIUS_NEIGHBOR = 3  # neighbors whose distance is the reach of a picture


class Projection:
    """The directions in which real pictures vary most, scaled so that all their variance together is 1.

    So pictures that are all alike, at the mean of the real ones, are at a Fréchet distance of 1.

    Args:
        features: of real pictures, [N, D].
    """

    def __init__(self, features: Tensor, dimensions: int = DIMENSIONS) -> None:
        features = features.double()
        self._mean = features.mean(0)
        spread = features.std(0)
        self._scale = 1 / spread.clamp(min=1e-3 * float(spread.max()) + 1e-12)
        scaled = (features - self._mean) * self._scale
        values, vectors = torch.linalg.eigh(scaled.T @ scaled / max(1, len(features) - 1))
        kept = min(dimensions, features.shape[1])
        self._directions = vectors[:, -kept:]
        self._size = max(float(values[-kept:].sum()), 1e-12)

    def __call__(self, features: Tensor) -> Tensor:
        """[N, D] -> [N, kept] float64."""
        projected: Tensor = ((features.double() - self._mean) * self._scale) @ self._directions / self._size**0.5
        return projected


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Squared Fréchet distance of the Gaussians that fit two sets of features [N, D] (1706.08500 eq. 6)."""
    return _gaussian_distance(_gaussian(first), _gaussian(second))


def _gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    features = features.double()
    centered = features - features.mean(0)
    return features.mean(0), centered.T @ centered / max(1, len(features) - 1)


def _gaussian_distance(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    (mean, spread), (other_mean, other_spread) = first, second
    values, vectors = torch.linalg.eigh(spread)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ other_spread @ root).clamp(min=0).sqrt().sum()
    return float((mean - other_mean).square().sum() + spread.trace() + other_spread.trace() - 2 * shared)


def corrected_frechet(samples: Tensor, real: Tensor) -> Estimate:
    """The distance that endlessly many samples would have, [N, D] against [M, D].

    The distance is too large by about c / N; its value at N, N/2, N/3 and N/4 samples is continued to 1/N = 0
    (1911.07023). Can fall below 0 by chance. The interval is that of a jackknife over the samples.
    """
    other = _gaussian(real)
    return jackknife(len(samples), lambda chosen: _extrapolated(samples[chosen], other))


def frechet_difference(first: Tensor, second: Tensor, real: Tensor) -> Estimate:
    """How much farther from `real` [M, D] the first samples are than the second, [N, D] each, made in pairs.

    Both distances as in `corrected_frechet`; what both owe to the choice of captions and noise falls out.
    """
    other = _gaussian(real)
    return jackknife(
        len(first), lambda chosen: _extrapolated(first[chosen], other) - _extrapolated(second[chosen], other)
    )


def _extrapolated(samples: Tensor, other: tuple[Tensor, Tensor]) -> float:
    """The distance continued to endlessly many samples."""
    sizes, values = [], []
    for parts in SPLITS:
        values.append(sum(_gaussian_distance(_gaussian(part), other) for part in samples.chunk(parts)) / parts)
        sizes.append(parts / len(samples))
    inverse, found = torch.tensor(sizes, dtype=torch.float64), torch.tensor(values, dtype=torch.float64)
    slope = ((inverse - inverse.mean()) * (found - found.mean())).sum() / (inverse - inverse.mean()).square().sum()
    return float(found.mean() - slope * inverse.mean())


def precision_recall(samples: Tensor, real: Tensor) -> tuple[Estimate, Estimate]:
    """Share of samples within reach of a real picture, and of real pictures within reach of a sample (1904.06991).

    Both [N, D]: both shares depend on the numbers of pictures, so these should be the same whenever two are compared.
    """
    apart = torch.cdist(samples.double(), real.double())
    covered = (apart <= _radii(real)[None]).any(1)
    met = (apart <= _radii(samples)[:, None]).any(0)
    return proportion(int(covered.sum()), len(covered)), proportion(int(met.sum()), len(met))


def _radii(features: Tensor) -> Tensor:
    apart = torch.cdist(features.double(), features.double())
    return apart.kthvalue(min(RADIUS_NEIGHBOR + 1, len(features)), dim=1).values  # the first is the picture itself
