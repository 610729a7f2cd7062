"""The forecast of memorizing: after how many images a run begins to learn its pictures by heart.

The time at which samples are good depends on the network alone, the time at which it begins to memorize grows linearly
with the number of different pictures, and is the shorter the wider the network (Bonnaire et al. 2025, arXiv
2505.17638). The constants are measured on parts of sets of pictures of 32 pixels (dev/LOG.md): memorizing begins where
the error on held-out pictures is a hundredth above its minimum for good.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from tintype.config import Config, TrainConfig
from tintype.data.cache.index import DatasetIndex

TIMES_EACH = 45.0  # that a picture is shown before memorizing begins, in a network of this width:
WIDTH = 192  # as in the preset `nano`
WIDTH_POWER = 0.5  # of that number, in 1 / width
MIN_HELD_OUT, MAX_SHARE = 16, 0.1  # pictures that a small folder holds out to notice it, and at most of all


def num_different(index: DatasetIndex, pictures: Tensor) -> int:
    """The number of different pictures among these indices [N]: exact copies count once."""
    return len(np.unique(index.facts["sha256"][pictures.numpy()], axis=0))


def memorizing_begins(config: Config, num_different: int) -> int:
    """The images after which a run of `config` on so many different pictures is expected to begin to memorize them."""
    images = TIMES_EACH * num_different * (WIDTH / config.net.width) ** WIDTH_POWER
    return int(float(f"{images:.2g}"))  # more digits would promise too much


def held_out_share(train: TrainConfig, num_pictures: int) -> float:
    """The share of so many pictures that a new run holds out: enough of a small folder to stop by."""
    if not train.stop_early or not train.held_out or num_pictures < MIN_HELD_OUT / MAX_SHARE:
        return train.held_out
    return max(train.held_out, MIN_HELD_OUT / num_pictures)


def forecast_sentence(begins: int, train: TrainConfig) -> str:
    """The forecast in words, beside the planned length of the run. What puts memorizing off was not measured."""
    images = train.planned_images or train.images
    later = " or later" if train.dropout or train.augment or train.text_noise or train.flip else ""
    forecast = f"from about {begins:,} images on{later} it would begin to learn its pictures by heart; your plan shows"
    if images <= begins:
        return f"{forecast} {images:,}"
    if train.stop_early:
        return f"{forecast} up to {images:,}, and stops by itself where that is so (--no-stop goes on)"
    return f"{forecast} {images:,}: more pictures or fewer --images help"
