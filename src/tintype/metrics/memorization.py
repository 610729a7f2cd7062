"""Memorization: how far the training error lies below the error on unseen pictures, relative to the ideal denoiser."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence

import torch
from torch import Tensor

from tintype.config import NoiseConfig
from tintype.data.cache.dataset_cache import DatasetCache
from tintype.diffusion.exact import finite_errors
from tintype.diffusion.loss import loss_weight
from tintype.diffusion.noise import Purpose, normal
from tintype.metrics.intervals import Estimate, bootstrap
from tintype.model.codec import Codec

BLOCK_VALUES = 2**22  # numbers in a block of pictures: bounds memory


def memorization_ratio(held_out: Tensor, training: Tensor, ideal: Tensor, weights: Tensor, seed: int) -> list[Estimate]:
    """The memorization ratio (held-out - training) / (held-out - ideal): 0 is none, 1 is complete memorization.

    held_out [N, K], training [M, K]: noise errors of the model; ideal [M, K]: noise errors of the ideal denoiser of the
    training set on the same pictures and noise. weights [K]: of the noise levels in the overall ratio.
    Returns K + 1 estimates: one per noise level, then the overall ratio.
    """

    def ratios(means: Sequence[Tensor]) -> Tensor:
        unseen, paired = means
        seen, best = paired.unbind(-1)
        gap, max_gap = unseen - seen, unseen - best
        overall_max_gap = (weights * max_gap).sum(-1)
        overall = (weights * gap).sum(-1) / torch.where(overall_max_gap > 0, overall_max_gap, torch.nan)
        max_gap = torch.where(max_gap > 0, max_gap, torch.nan)  # unknown where unseen pictures are no harder
        return torch.cat([gap / max_gap, overall[:, None]], dim=-1)

    weights = weights.double()
    return bootstrap([held_out, torch.stack([training, ideal], dim=-1)], ratios, seed)


def level_weights(noise: NoiseConfig, sigmas: Tensor) -> Tensor:
    """The weight of the noise error in the training loss at each noise level: [K]."""
    return loss_weight(noise.weight, sigmas, noise.sigma_data, noise.weight_fade) * sigmas.square()


def ideal_errors(
    dataset: DatasetCache,
    codec: Codec,
    seen: Tensor,
    indices: Tensor,
    sigmas: Tensor,
    seed: int,
    *,
    captions: Sequence[bool] = (True, False),
) -> Generator[int, None, Tensor]:
    """Noise errors of the ideal denoiser of a training set on some of its pictures.

    Args:
        seen: indices of the training set. indices: of the pictures to measure, [N]. sigmas: [K].
        seed: of the noise, `normal(seed, Purpose.EVALUATE, index)`.
        captions: for each of the P results, whether the denoiser is conditioned on the caption, so that only pictures
            with the same caption remain possible.

    Yields the number of training pictures just compared, about 1 + P times each. Returns [P, N, K] float64.
    """
    errors = torch.empty(len(captions), len(indices), len(sigmas), dtype=torch.float64)
    for rows in dataset.by_shape(indices):
        queries = indices[rows]
        points = seen[torch.from_numpy(dataset.shape_of[seen.numpy()] == dataset.shape_of[int(queries[0])])]
        x0 = codec.encode(dataset.pictures(queries))
        noise = normal(seed, Purpose.EVALUATE, queries, tuple(x0.shape[1:]))
        prior = torch.zeros(len(points)) if dataset.weights is None else dataset.weights[points].log().float()
        priors = [
            _log_caption_likelihood(dataset, queries, points).add_(prior) if known else prior for known in captions
        ]
        errors[:, rows] = yield from finite_errors(
            _blocks(dataset, codec, points, x0[0].numel()), x0, noise, sigmas, priors
        )
    return errors


def _blocks(dataset: DatasetCache, codec: Codec, indices: Tensor, values: int) -> Callable[[], Iterator[Tensor]]:
    step = max(16, BLOCK_VALUES // values)
    return lambda: (codec.encode(dataset.pictures(block)) for block in torch.split(indices, step))


def _log_caption_likelihood(dataset: DatasetCache, queries: Tensor, points: Tensor) -> Tensor:
    """ln of the probability that a point [M] is shown with the first caption of a query [N]: [N, M]."""
    columns_by_caption: dict[int, list[int]] = defaultdict(list)
    choices = dataset.choices
    for column, index in enumerate(points.tolist()):
        for caption in choices[index]:
            columns_by_caption[caption].append(column)
    likelihood = torch.zeros(len(queries), len(points))
    for row, index in enumerate(queries.tolist()):
        for column in columns_by_caption[choices[index][0]]:
            likelihood[row, column] += 1 / len(choices[int(points[column])])
    return likelihood.log_()
