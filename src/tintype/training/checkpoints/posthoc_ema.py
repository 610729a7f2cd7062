"""Post-hoc EMA: an average of any width, mixed after training from the stored ones (Karras et al. 2023, arXiv
2312.02696, appendix C).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tintype.config import Config
from tintype.errors import CheckpointError, ConfigError, TintypeWarning
from tintype.model import checkpoint
from tintype.model.file_names import CONFIG, STATE
from tintype.training.checkpoints.checkpointer import read_whole
from tintype.training.core.ema import gamma_of

MAX_WIDTH = 0.25  # of an average, relative to the length of the run
MAX_DISTANCE = 0.05  # of the mixed profile from the target, relative to the norm of the target


class Profile(NamedTuple):
    """The weight of the past in an average: t^gamma, up to `images`."""

    images: float
    gamma: float


def inner_product(a: Profile, b: Profile) -> float:
    """The inner product of two profiles, each of integral 1 (Karras et al. 2023, arXiv 2312.02696, eq. 151)."""
    end = min(a.images, b.images)
    ratio_a, ratio_b = end / a.images, end / b.images
    scale = (a.gamma + 1) * (b.gamma + 1) / (a.gamma + b.gamma + 1)
    return float(scale * ratio_a**a.gamma * ratio_b**b.gamma / max(a.images, b.images))


def mix_weights(stored: Sequence[Profile], target: Profile) -> tuple[Tensor, float]:
    """The weights, float64 [N] of sum 1, that mix the `stored` profiles into the nearest one to `target`.

    Also returns the distance of the mix from `target`, relative to the norm of `target`: 0 is exact.
    """
    gram = torch.tensor([[inner_product(a, b) for b in stored] for a in stored], dtype=torch.float64)
    products = torch.tensor([inner_product(profile, target) for profile in stored], dtype=torch.float64)
    # Least squares under the condition that the weights sum to 1: else the mixed model would shrink.
    size, scale = len(stored), float(gram.diagonal().mean())
    system = torch.zeros(size + 1, size + 1, dtype=torch.float64)
    system[:size, :size], system[size, :size], system[:size, size] = gram / scale, 1.0, 1.0
    right = torch.cat([products / scale, torch.ones(1, dtype=torch.float64)])
    weights = torch.linalg.lstsq(system, right[:, None], driver="gelsd").solution[:size, 0]
    norm = inner_product(target, target)
    square = float(weights @ gram @ weights - 2 * weights @ products) + norm
    return weights, (max(0.0, square) / norm) ** 0.5


def averaged(run: Path, width: float) -> tuple[dict[str, Tensor], Config, float, int]:
    """The weights of a run averaged with a profile of `width`, its configuration, the distance of `mix_weights`,
    and the images seen.

    Mixes both averages of every checkpoint in the run. Raises ConfigError for a width out of range and CheckpointError
    if the run has no checkpoint. Warns of damaged checkpoints, which are left out.
    """
    if not 0 < width <= MAX_WIDTH:
        raise ConfigError(f"width must be above 0 and at most {MAX_WIDTH}, not {width:g}")
    damages = {folder: checkpoint.damage_of(folder) for folder in checkpoint.checkpoints(run)}
    folders = [folder for folder, damage in damages.items() if damage is None]
    if not folders:
        raise CheckpointError(f"{run} has no whole checkpoint; give the folder of a run")
    for damage in filter(None, damages.values()):
        warnings.warn(f"{damage}; it is left out of the average", TintypeWarning, stacklevel=2)
    config = Config.from_json(checkpoint.load_texts(folders[0])[CONFIG])
    widths = {"model": config.train.ema_width, "model_long": config.train.ema_width_long}
    stored: list[tuple[Path, str, Profile]] = []
    for folder in folders:
        images = json.loads(checkpoint.load_texts(folder)[STATE])["images_seen"]
        parts = widths if checkpoint.is_sharded(folder) else checkpoint.part_names(folder)
        stored += [
            (folder, part, Profile(images, gamma_of(widths[part]))) for part in widths if part in parts and images
        ]
    newest = max(profile.images for _, _, profile in stored)
    weights, distance = mix_weights([profile for _, _, profile in stored], Profile(newest, gamma_of(width)))
    total: dict[str, Tensor] = {}
    for (folder, part, _), weight in zip(stored, weights.tolist(), strict=True):
        for name, tensor in read_whole(folder, [part])[part].items():
            term = weight * tensor.double()
            total[name] = total[name] + term if name in total else term
    return {name: tensor.float() for name, tensor in total.items()}, config, distance, int(newest)
