"""Early stopping: a run ends once it would only learn its pictures by heart, and hands over its best average.

Memorizing begins where the error on held-out pictures has its minimum: from there on the training error alone falls.
The held-out error is measured at positions that follow from those measured before, of the averaged weights, on the same
pictures and noise each time, and what is compared is the change of each picture's own error, which varies little. All
of it is part of a checkpoint, so that a run that is killed stops where any other would.

The learning rate does not fall at such an end: on few pictures that lowers the training error alone (dev/LOG.md). Only
a run with samples of half the size must still see all of them at full size, for which its rate falls as ever.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tintype.config import TrainConfig
from tintype.errors import CheckpointError
from tintype.training.core.trainer import Trainer

BEST = "model_best"  # part of a checkpoint: the averaged weights at the lowest error
MIN_PICTURES = 8  # held out; with fewer, a run does not stop by itself
MAX_PICTURES = 32  # that are measured
MAX_COST = 0.02  # of the images between two measurements: what a measurement may cost, in steps of training
FORWARD_COST = 1 / 3  # of an image in training: no gradient
EARLIEST = 0.5  # of the images where memorizing is forecast to begin: no measurement before
RATIO = 1.05  # between the positions of two measurements, at least
PATIENCE = 1.2  # times the images at the lowest error: how long a run goes on without a lower one
RISE = 0.01  # of ln error from the lowest one: memorizing has begun, if the rise is
SIGNIFICANT = 2.0  # standard errors over pictures, or is
LARGE_RISE = 0.03


class Trend:
    """The course of the held-out error: `lowest`, the ln error of each picture [N] where their mean was lowest, and the
    `images` seen there.
    """

    def __init__(self, images: int = 0, lowest: Sequence[float] = ()) -> None:
        self.images = images
        self.lowest = torch.tensor(lowest, dtype=torch.float64)

    def rises(self, images_seen: int, errors: Tensor) -> bool:
        """Take in the errors [N, K] of the same pictures after `images_seen`: whether they have begun to rise."""
        logs = errors.double().log().mean(1)
        if not bool(logs.isfinite().all()):
            return False
        if not len(self.lowest) or float(logs.mean()) < float(self.lowest.mean()):
            self.images, self.lowest = images_seen, logs
            return False
        rises = logs - self.lowest
        rise, error = float(rises.mean()), float(rises.std()) / math.sqrt(len(rises))
        return images_seen >= PATIENCE * self.images and rise > min(max(RISE, SIGNIFICANT * error), LARGE_RISE)


class EarlyStopping:
    """Measures the held-out error of a trainer from time to time, and says when to stop.

    `end`: the images at which the run was told to end; 0: it was not.

    Args:
        held_out: indices [N] of the pictures that are not trained on.
        state: of a checkpoint; empty at the start of a run. Raises CheckpointError if it is of another kind.
        best: the part BEST of that checkpoint.
        forecast: images after which memorizing is expected to begin; 0: it may at once, as from another model.
    """

    def __init__(
        self,
        trainer: Trainer,
        held_out: Tensor,
        state: Mapping[str, Any],
        best: Mapping[str, Tensor] | None = None,
        forecast: float = 0.0,
    ) -> None:
        self._trainer = trainer
        self._held_out = held_out[:MAX_PICTURES]
        train = trainer.config.train
        cost = FORWARD_COST * len(self._held_out) * len(trainer.levels)
        self._gap = max(cost / MAX_COST, train.batch_size)  # images between measurements, at least
        self._newest = math.nan
        self._best = dict(best or {})
        try:
            self.end = int(state.get("end", 0))
            self._trend = Trend(int(state.get("images", 0)), list(map(float, state.get("lowest", []))))
            self._due = float(state.get("due", max(train.warmup_images, self._gap, EARLIEST * forecast)))
        except (TypeError, ValueError):
            raise CheckpointError("the checkpoint's record of early stopping is damaged; use another one") from None

    @property
    def can_measure(self) -> bool:
        """Whether enough pictures are held out."""
        return len(self._held_out) >= MIN_PICTURES

    @property
    def images(self) -> int:
        """The images seen at the lowest error so far."""
        return self._trend.images

    def state(self) -> dict[str, Any]:
        """What `__init__` takes, for state.json."""
        return {"end": self.end, "images": self.images, "lowest": self._trend.lowest.tolist(), "due": self._due}

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The part BEST of a checkpoint; none before the first measurement, or once the run was told to end."""
        return {BEST: self._best} if self._best and not self.end else {}

    def stop(self) -> dict[str, Tensor]:
        """Tell the run to end, `end` says where; returns the averaged weights at the lowest error."""
        self.end = images_when_stopped(self._trainer.images_seen, self._trainer.config.train)
        return self._best

    def is_due(self) -> bool:
        """Whether the error is to be measured now; not while samples of half the size give way to those of full."""
        train, seen = self._trainer.config.train, self._trainer.images_seen
        return not self.end and self._due <= seen < (train.decay_start if train.half_size else train.images)

    def measure(self) -> Generator[object, None, bool]:
        """Measure the error, inside `averaged`; returns whether to stop. Yields in between; ended early, it is due."""
        errors = (yield from self._trainer.measure_noise_errors(self._held_out, ["true"]))["true"]
        return self.take(errors)

    def take(self, errors: Tensor) -> bool:
        """Take in the errors [N, K] of the present weights; returns whether to stop."""
        self.left_out()
        seen = self._trainer.images_seen
        self._newest = math.exp(float(errors.log().mean()))
        rises = self._trend.rises(seen, errors)
        if self.images == seen:
            weights = self._trainer.denoiser.named_parameters()
            self._best = {name: weight.detach().clone() for name, weight in weights}
        return rises

    def left_out(self) -> None:
        """Leave the measurement that is due to another process."""
        seen = self._trainer.images_seen
        self._due = max(seen * RATIO, seen + self._gap)

    def result(self) -> dict[str, Any]:
        """The newest measurement, for the log: geometric means of the errors, and the images at the lowest one."""
        return {
            "error": self._newest,
            "lowest": math.exp(float(self._trend.lowest.mean())),
            "lowest_images": self.images,
        }


def images_when_stopped(images_seen: int, train: TrainConfig) -> int:
    """The length of a run that is told to stop after `images_seen`, at most the planned one.

    With samples of half the size, the learning rate falls from now on, until whole batches of that run are seen.
    """
    if not train.half_size:
        return min(train.images, images_seen)
    steps = math.ceil(images_seen / (1 - train.decay_fraction) / train.batch_size)
    return min(train.images, steps * train.batch_size)
