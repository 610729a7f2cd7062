"""The automatic resolution: the largest that the pictures have, and that can be learned in the given time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from tintype.config import PRESETS, DataConfig
from tintype.data.images.decode import examine_all, preprocess_for
from tintype.data.sources.pairs import Pair
from tintype.errors import DataError
from tintype.training.console import duration
from tintype.training.core.device import bf16_is_faster
from tintype.training.setup.auto_preset import measure_preset
from tintype.training.setup.plan import MIN_IMAGES, SMALLEST_SIDE
from tintype.training.setup.resolve_config import preset_for

RESOLUTIONS = (256, 128, 64, SMALLEST_SIDE)
_EXAMINED = 64  # pictures, evenly spread
_SHARE = 0.75  # of the pictures that must be as large
_SLACK = 0.9  # of the resolution that counts as large enough


def auto_resolution(
    pairs: Sequence[Pair],
    options: DataConfig,
    device: torch.device,
    *,
    preset: str | None = None,
    minutes: float | None = None,
    num_processes: int = 1,
) -> tuple[int, str]:
    """The resolution of a run, and the reason for it in words.

    Without `minutes` the pictures alone decide. preset: None chooses by device. Raises DataError if no picture can be
    read.
    """
    side = picture_side(pairs, options)
    fitting = [size for size in RESOLUTIONS if _SLACK * size <= side] or [RESOLUTIONS[-1]]
    reason = f"the pictures have about {side:.0f} pixels a side"
    if minutes is None:
        return fitting[0], reason
    bf16 = len(fitting) > 1 and bf16_is_faster(device)
    for size in fitting[:-1]:
        config = PRESETS[preset or preset_for(device, size)](size)
        config = replace(config, train=replace(config.train, half_size=0.0))
        rate, _ = measure_preset(config, device, bf16)
        seconds = MIN_IMAGES / (rate * num_processes)
        if seconds <= 60 * minutes:
            return size, reason
        reason += f"; {size} would take {duration(seconds)} at least"
    return fitting[-1], reason


def picture_side(pairs: Sequence[Pair], options: DataConfig) -> float:
    """The side, in pixels, of a square as large as a picture, which three quarters of the pictures reach.

    Raises DataError if not one of those examined can be read.
    """
    step = max(1, len(pairs) // _EXAMINED)
    # Pictures that are too small to train on count here: they decide.
    preprocess = preprocess_for(RESOLUTIONS[-1], replace(options, min_size=1))
    examined = examine_all([pair.source for pair in pairs[::step]], preprocess, pixels=False)
    sides = sorted(math.sqrt(one.facts.width * one.facts.height) for one in examined if one.facts is not None)
    if not sides:
        raise DataError("none of the pictures can be read; `tintype check` lists them with the reasons")
    return sides[int((1 - _SHARE) * len(sides))]
