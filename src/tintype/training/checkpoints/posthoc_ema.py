"""A moving average of any length, after training, from those that were kept (Karras et al. 2023, appendix C)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tintype.config import Config
from tintype.errors import CheckpointError, ConfigError
from tintype.model import checkpoint
from tintype.training.checkpoints.checkpointer import read_whole
from tintype.training.checkpoints.run_folder import CONFIG, STATE
from tintype.training.core.ema import gamma_of

WIDEST = 0.25  # of an average, relative to the length of the run
SLACK = 0.05  # distance of the profile that is found from the one that is wanted, relative to it, at most


class Profile(NamedTuple):
    """How an average weighs the past: as t^gamma, up to `images`."""

    images: float
    gamma: float


def overlap(one: Profile, two: Profile) -> float:
    """The inner product of two profiles, each of integral 1 (eq. 151)."""
    ratio = min(one.images, two.images)
    share_one, share_two = ratio / one.images, ratio / two.images
    together = (one.gamma + 1) * (two.gamma + 1) / (one.gamma + two.gamma + 1)
    return float(together * share_one**one.gamma * share_two**two.gamma / max(one.images, two.images))


def shares(kept: Sequence[Profile], wanted: Profile) -> tuple[Tensor, float]:
    """How to mix averages of the profiles `kept` to come nearest to the one `wanted`: float64 [N], of sum 1.

    Also returns how far from it the mix is, relative to its norm: 0 is exact.
    """
    gram = torch.tensor([[overlap(one, two) for two in kept] for one in kept], dtype=torch.float64)
    aims = torch.tensor([overlap(one, wanted) for one in kept], dtype=torch.float64)
    # Least squares under the condition that the shares sum to 1: else the weights would shrink.
    size, scale = len(kept), float(gram.diagonal().mean())
    system = torch.zeros(size + 1, size + 1, dtype=torch.float64)
    system[:size, :size], system[size, :size], system[:size, size] = gram / scale, 1.0, 1.0
    right = torch.cat([aims / scale, torch.ones(1, dtype=torch.float64)])
    found = torch.linalg.lstsq(system, right[:, None], driver="gelsd").solution[:size, 0]
    norm = overlap(wanted, wanted)
    square = float(found @ gram @ found - 2 * found @ aims) + norm
    return found, (max(0.0, square) / norm) ** 0.5


def averaged(run: Path, width: float) -> tuple[dict[str, Tensor], Config, float]:
    """The weights of a run averaged with a profile of `width`, its configuration, and how near the profile came.

    Uses both averages of every checkpoint that was kept. Raises ConfigError for a width that cannot be had from them
    and CheckpointError if there is none.
    """
    if not 0 < width <= WIDEST:
        raise ConfigError(f"width must be above 0 and at most {WIDEST}, not {width:g}")
    places = [place for place in checkpoint.checkpoints(run) if checkpoint.is_whole(place)]
    if not places:
        raise CheckpointError(f"{run} has no whole checkpoint; give the folder of a run")
    config = Config.from_json(checkpoint.load_texts(places[0])[CONFIG])
    widths = {"model": config.train.ema_width, "model_long": config.train.ema_width_long}
    kept: list[tuple[Path, str, Profile]] = []
    for place in places:
        seen = json.loads(checkpoint.load_texts(place)[STATE])["images_seen"]
        names = widths if checkpoint.is_sharded(place) else checkpoint.part_names(place)
        kept += [(place, name, Profile(seen, gamma_of(own))) for name, own in widths.items() if name in names and seen]
    newest = max(profile.images for _, _, profile in kept)
    mix, distance = shares([profile for _, _, profile in kept], Profile(newest, gamma_of(width)))
    total: dict[str, Tensor] = {}
    for (place, part, _), share in zip(kept, mix.tolist(), strict=True):
        for name, tensor in read_whole(place, [part])[part].items():
            added = share * tensor.double()
            total[name] = total[name] + added if name in total else added
    return {name: tensor.float() for name, tensor in total.items()}, config, distance
