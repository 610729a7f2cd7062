"""Power-function moving average of the weights (Karras et al. 2023, arXiv 2312.02696, section 3.1 and appendix C)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tintype.errors import CheckpointError
from tintype.training.parallel.world import local_shard, shard_like


def gamma_of(width: float) -> float:
    """Exponent of the averaging profile t^gamma whose standard deviation is `width` of its length (eq. 126).

    Solves gamma + 1 = width^2 (gamma + 2)^2 (gamma + 3) for the one root above 0. Raises ValueError outside
    (0, 0.2886): the profile of exponent 0, a plain mean, has width sqrt(1 / 12).
    """
    if not 0 < width < math.sqrt(1 / 12):
        raise ValueError(f"width must be above 0 and below 0.2886, not {width}")
    low, high = 0.0, 1.0 / width  # the variance falls with gamma, and is below 1 / gamma^2
    for _ in range(100):
        middle = (low + high) / 2
        variance = (middle + 1) / ((middle + 2) ** 2 * (middle + 3))
        low, high = (middle, high) if variance > width**2 else (low, middle)
    return (low + high) / 2


def beta_at(images_seen: float, num_images: float, gamma: float) -> float:
    """How much of the old average stays when `num_images` brought the count to `images_seen` (eq. 127)."""
    return float((1.0 - num_images / images_seen) ** (gamma + 1.0))


class PowerEma:
    """Moving average of a model's weights; the first update makes it the weights themselves."""

    def __init__(self, model: nn.Module, width: float) -> None:
        self._gamma = gamma_of(width)
        self._weights = dict(model.named_parameters())
        self._averages = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self, images_seen: int, num_images: int) -> None:
        """Add the current weights, after the step of `num_images` that ended at `images_seen`."""
        share = 1.0 - beta_at(images_seen, num_images, self._gamma)
        averages = [local_shard(average) for average in self._averages.values()]
        torch._foreach_lerp_(averages, [local_shard(weight) for weight in self._weights.values()], share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A `with` block in which the model has the averaged weights. Swaps them in and out without copies."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, weight in self._weights.items():
            weight.data, self._averages[name] = self._averages[name], weight.data

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights by name, as a model folder holds them."""
        return {name: average.detach() for name, average in self._averages.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore `state_dict` exactly. Raises CheckpointError if it belongs to another model."""
        for name, average in self._averages.items():
            if name not in state or state[name].shape != average.shape:
                raise CheckpointError(f"the averaged weights lack {name}; use another checkpoint")
            local_shard(average).copy_(local_shard(shard_like(state[name], average)))
