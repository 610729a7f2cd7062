"""Image quality: Fréchet distance, precision and recall between samples and real pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from tintype.diffusion.noise import EvalSubset
from tintype.evaluation.eval_data import MIN_PICTURES, EvalData, choose_subset
from tintype.evaluation.features import FeatureSets
from tintype.evaluation.results import EvalSettings, Quality
from tintype.metrics.intervals import Estimate, jackknife, proportion

DIMENSIONS = 32  # principal components that distances are taken in: far fewer than there are samples
SPLITS = (1, 2, 3, 4)  # numbers of parts that samples are split into, to extrapolate over the sample size
MIN_SAMPLES = 2 * DIMENSIONS
MAX_REFERENCE = 20_000  # training pictures that samples are compared with
RADIUS_NEIGHBOR = 3  # the k of the k-nearest-neighbor radius of a picture


class Projection:
    """Principal components of real features, scaled to a total variance of 1.

    The Fréchet distance of a constant picture at the mean of the real ones is then 1.

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
    """Squared Fréchet distance between Gaussians fitted to two sets of features [N, D] (Heusel et al. 2017,
    arXiv 1706.08500, eq. 6)."""
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
    """The Fréchet distance extrapolated to infinitely many samples, [N, D] against [M, D].

    The bias of the distance is about c / N; a line through its values at N, N/2, N/3 and N/4 samples is extrapolated to
    1/N = 0 (Chong and Forsyth 2019, arXiv 1911.07023). By chance the result can be negative. The interval is that of a
    jackknife over the samples.
    """
    other = _gaussian(real)
    return jackknife(len(samples), lambda chosen: _extrapolated(samples[chosen], other))


def frechet_difference(first: Tensor, second: Tensor, real: Tensor) -> Estimate:
    """The difference of the `corrected_frechet` distances of paired samples, [N, D] each, from `real` [M, D].

    Pairs share caption and noise, so the variance that these cause cancels.
    """
    other = _gaussian(real)
    return jackknife(
        len(first), lambda chosen: _extrapolated(first[chosen], other) - _extrapolated(second[chosen], other)
    )


def _extrapolated(samples: Tensor, other: tuple[Tensor, Tensor]) -> float:
    """The Fréchet distance extrapolated to infinitely many samples."""
    inverse_sizes, values = [], []
    for num_parts in SPLITS:
        parts = samples.chunk(num_parts)
        values.append(sum(_gaussian_distance(_gaussian(part), other) for part in parts) / num_parts)
        inverse_sizes.append(num_parts / len(samples))
    x, y = torch.tensor(inverse_sizes, dtype=torch.float64), torch.tensor(values, dtype=torch.float64)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return float(y.mean() - slope * x.mean())


def precision_recall(samples: Tensor, real: Tensor) -> tuple[Estimate, Estimate]:
    """Precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991) of samples against real features, both [N, D].

    Both depend on the number of pictures: compare only values for the same number.
    """
    distance = torch.cdist(samples.double(), real.double())
    is_precise = (distance <= _radii(real)[None]).any(1)
    is_recalled = (distance <= _radii(samples)[:, None]).any(0)
    return proportion(int(is_precise.sum()), len(is_precise)), proportion(int(is_recalled.sum()), len(is_recalled))


def _radii(features: Tensor) -> Tensor:
    """The distance of each row of features [N, D] to its k-th nearest neighbor: [N]."""
    distance = torch.cdist(features.double(), features.double())
    return distance.kthvalue(min(RADIUS_NEIGHBOR + 1, len(features)), dim=1).values  # the first is the row itself


def measure_quality(
    data: EvalData, features: FeatureSets | None, settings: EvalSettings, notes: list[str]
) -> Quality | None:
    """Compare samples with training pictures, and as many unseen pictures with them for reference."""
    if features is None:
        return None
    on_unseen = len(data.unseen) >= MIN_PICTURES  # otherwise `features.unseen` are training pictures
    num = min(map(len, features))
    if num < MIN_SAMPLES or not on_unseen:
        reason = f"fewer than {MIN_SAMPLES} samples or held-out pictures" if on_unseen else "no pictures are held out"
        notes.append(f"image quality was not measured: {reason}")
        return None
    rows = torch.arange(len(features.seen))
    reference = features.seen[choose_subset(rows, MAX_REFERENCE, settings.seed, EvalSubset.CALIBRATION)]
    project = Projection(reference)
    samples, unseen, seen = map(project, (features.samples[:num], features.unseen[:num], reference))
    subset = choose_subset(torch.arange(len(seen)), num, settings.seed, EvalSubset.CALIBRATION)
    precision, recall = precision_recall(samples, seen[subset])
    precision_real, recall_real = precision_recall(unseen, seen[subset])
    return Quality(
        features=settings.features,
        frechet=corrected_frechet(samples, seen),
        frechet_real=corrected_frechet(unseen, seen),
        precision=precision,
        recall=recall,
        precision_real=precision_real,
        recall_real=recall_real,
        num=num,
    )
