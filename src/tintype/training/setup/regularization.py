"""Regularization by the size of the folder: what keeps a network from learning few pictures by heart."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from tintype.config import Config, TrainConfig
from tintype.training.setup.request import TrainRequest


class Strength(NamedTuple):
    """The settings of a run that shows each picture at least `times` times."""

    times: float
    dropout: float
    augment: float


# A network begins to know its pictures by heart after a number of times each, whatever their number is (Bonnaire et al.
# 2025, arXiv 2505.17638). Strengths as others use for sets of this kind (Karras et al. 2022, arXiv 2206.00364: .12 to
# .15 of augmentation, .05 to .25 of dropout); not measured here (dev/LOG.md).
STRENGTHS = (Strength(100, 0.1, 0.3), Strength(30, 0.1, 0.15))


def with_regularization(config: Config, request: TrainRequest, num: int) -> Config:
    """The configuration of a new run on `num` different pictures, with what fits so many.

    Only for a request that asks for it, and does not bring a whole configuration or a trained model. A network that was
    passed in has no dropout.
    """
    if not request.regularize or request.config is not None or request.from_model is not None:
        return config
    times = config.train.images / max(1, num)
    strength = next((strength for strength in STRENGTHS if times >= strength.times), None)
    if strength is None:
        return config
    dropout = strength.dropout if request.components.net is None else 0.0
    return replace(config, train=replace(config.train, dropout=dropout, augment=strength.augment))


def regularization_text(train: TrainConfig, num: int) -> str:
    """What a run on `num` different pictures does against learning them by heart, in one line; "" if nothing."""
    parts = []
    if train.augment:
        parts.append(f"flips, shifts, sizes and colors told to the network, {train.augment:g} of the pictures each")
    elif train.flip:
        parts.append("flips")
    if train.dropout:
        parts.append(f"dropout {train.dropout:g}")
    if train.text_noise:
        parts.append(f"noise of {train.text_noise:g} on text embeddings")
    return f"{num:,} different pictures: {', '.join(parts)}" if parts else ""
