"""How far a model has gone from understanding its pictures to knowing them by heart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence

import torch
from torch import Tensor

from tintype.config import NoiseConfig
from tintype.data.cache.dataset_cache import Pack
from tintype.diffusion.exact import finite_errors
from tintype.diffusion.loss import loss_weight
from tintype.diffusion.noise import Purpose, normal
from tintype.metrics.intervals import Estimate, bootstrap
from tintype.model.codec import PixelCodec

BLOCK_VALUES = 2**22  # numbers in a block of pictures: bounds memory
CODEC = PixelCodec()


def memorization_ratio(held_out: Tensor, training: Tensor, ideal: Tensor, weights: Tensor, seed: int) -> list[Estimate]:
    """(held-out - training) / (held-out - ideal): 0 does no better on training pictures, 1 knows them by heart.

    held_out [N, K], training [M, K]: noise errors of the model; ideal [M, K]: of the ideal denoiser of the training set
    on the same pictures and noise. weights [K]: of a level in the last figure, which is for all levels together.
    Returns K + 1 estimates.
    """

    def figure(means: Sequence[Tensor]) -> Tensor:
        unseen, both = means
        seen, best = both.unbind(-1)
        gap, room = unseen - seen, unseen - best
        room = torch.where(room > 0, room, torch.nan)  # where new pictures are no harder, there is nothing to gauge
        total_room = (weights * (unseen - best)).sum(-1)
        total = (weights * gap).sum(-1) / torch.where(total_room > 0, total_room, torch.nan)
        return torch.cat([gap / room, total[:, None]], dim=-1)

    weights = weights.double()
    return bootstrap([held_out, torch.stack([training, ideal], dim=-1)], figure, seed)


def level_weights(noise: NoiseConfig, sigmas: Tensor) -> Tensor:
    """How much the error of the noise counts in training at each level: [K]."""
    return loss_weight(noise.weight, sigmas, noise.sigma_data, noise.weight_fade) * sigmas.square()


def ideal_errors(
    pack: Pack, seen: Tensor, indices: Tensor, sigmas: Tensor, seed: int, *, captions: Sequence[bool] = (True, False)
) -> Generator[int, None, Tensor]:
    """Noise errors of the ideal denoiser of a training set at some of its pictures.

    Args:
        seen: the training set. indices: those of it to measure at, [N]. sigmas: [K].
        seed: of the noise, that of `normal(seed, Purpose.EVALUATE, index)`.
        captions: whether the denoiser knows the captions, so that it has to tell only pictures of the same caption
            from each other; one answer each.

    Yields how many pictures were gone through, about (1 + P) times each. Returns [P, N, K] float64.
    """
    found = torch.empty(len(captions), len(indices), len(sigmas), dtype=torch.float64)
    for places in pack.by_shape(indices):
        own = indices[places]
        alike = seen[torch.from_numpy(pack.shape_of[seen.numpy()] == pack.shape_of[int(own[0])])]
        x0 = CODEC.encode(pack.pictures(own))
        noise = normal(seed, Purpose.EVALUATE, own, tuple(x0.shape[1:]))
        blind = torch.zeros(len(alike)) if pack.weights is None else pack.weights[alike].log().float()
        priors = [_log_shares(pack, own, alike).add_(blind) if known else blind for known in captions]
        found[:, places] = yield from finite_errors(_blocks(pack, alike, x0[0].numel()), x0, noise, sigmas, priors)
    return found


def _blocks(pack: Pack, indices: Tensor, values: int) -> Callable[[], Iterator[Tensor]]:
    step = max(16, BLOCK_VALUES // values)
    return lambda: (CODEC.encode(pack.pictures(some)) for some in torch.split(indices, step))


def _log_shares(pack: Pack, queries: Tensor, points: Tensor) -> Tensor:
    """ln of the probability that a point [N] is shown with the first caption of a query [Q]: [Q, N]."""
    said_by: dict[int, list[int]] = defaultdict(list)
    choices = pack.choices
    for place, index in enumerate(points.tolist()):
        for caption in choices[index]:
            said_by[caption].append(place)
    shares = torch.zeros(len(queries), len(points))
    for row, index in enumerate(queries.tolist()):
        for place in said_by[choices[index][0]]:
            shares[row, place] += 1 / len(choices[int(points[place])])
    return shares.log_()
