"""The training loop: noised pictures in, better weights out; every draw is a function of the position in the run.

positions k .. k + B - 1 -> samples, captions, flips, noise levels, noise -> loss -> optimizers -> average
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from tintype.codec import PixelCodec
from tintype.config import Config
from tintype.data.order import Order, caption_at, dropped_at, flip_at
from tintype.data.stream import ReadAhead
from tintype.denoiser import Denoiser
from tintype.diffusion.loss import WEIGHTS, diffusion_loss, noise_error
from tintype.diffusion.noise import Purpose, add_noise, normal, sigma_of
from tintype.errors import CheckpointError, TrainingError
from tintype.nets.conditioning import Conditioning
from tintype.train.ema import PowerEma
from tintype.train.optim import load_optimizer_state, lr_at, make_optimizers, optimizer_state

MAX_SKIPPED = 8  # steps in a row without a finite gradient, after which the run is beyond repair
LEVELS = (0.1, 0.3, 1.0, 3.0, 10.0)  # noise levels at which the held-out error is measured
MAX_MEASURED = 64  # held-out pictures that are measured


class Samples(Protocol):
    """What the trainer needs of a `data.pack.Pack` or `data.stream.Stream`."""

    def order(self, seed: int, indices: Tensor) -> Order: ...

    def by_shape(self, indices: Tensor) -> list[Tensor]: ...

    def pictures(self, indices: Tensor) -> Tensor: ...

    def states(self, indices: Tensor, choice: Tensor) -> list[Tensor]: ...

    def split(self, share: float) -> tuple[Tensor, Tensor]: ...


class Part(NamedTuple):
    """The samples of a batch that are of one shape."""

    positions: Tensor  # [B] in the run
    pictures: Tensor  # [B, 3, H, W] uint8
    states: Sequence[Tensor]  # of their captions; none where the caption is dropped


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did; made after the optimizer and the average were updated."""

    images_seen: int
    loss: float  # weighted, mean over the batch
    grad_norm: float  # before clipping
    lr: float
    skipped: bool  # the loss or gradient was not finite, so the weights were left alone


class Trainer:
    """Trains a denoiser on the samples of a pack. Two trainers of equal arguments and state go on bit for bit alike.

    Args:
        bf16: compute the network in bfloat16 where PyTorch holds that to be safe; weights and loss stay float32.
        ahead: batches that are read while others are computed, for samples that take time to read.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        samples: Samples,
        config: Config,
        device: torch.device,
        *,
        bf16: bool = False,
        ahead: int = 0,
    ) -> None:
        self.denoiser = denoiser.to(device).train()
        self.config = config
        self.images_seen = 0
        self.num_skipped = 0
        self._skipped_in_a_row = 0
        self._device = device
        # Draws need float64, which not every device has; they are the same on all.
        self._drawn_on = device if device.type in ("cpu", "cuda") else torch.device("cpu")
        self._bf16 = bf16
        self._samples = samples
        self._shown, self._held_out = samples.split(config.train.held_out)
        self._order = samples.order(config.train.seed, self._shown)
        self._read = ReadAhead(self._parts, ahead)
        self._codec = PixelCodec()
        self._weights = [weight for weight in self.denoiser.parameters() if weight.requires_grad]
        self._optimizers = make_optimizers(self.denoiser, config.train)
        self._ema = PowerEma(self.denoiser, config.train.ema_width)

    def steps(self, until: int) -> Iterator[StepReport]:
        """Train until at least `until` images were seen, and report each step after it is complete.

        Raises TrainingError when step after step has no finite gradient.
        """
        while self.images_seen < until:
            yield self._step()

    def averaged(self) -> AbstractContextManager[None]:
        """A `with` block in which `denoiser` has the averaged weights and is set to evaluate."""
        return _averaged(self.denoiser, self._ema)

    @torch.no_grad()
    def held_out_error(self) -> dict[float, float]:
        """Mean squared error of the predicted noise on held-out pictures by noise level, with the averaged weights.

        The same pictures and noise every time. Empty if nothing is held out.
        """
        indices = self._held_out[:MAX_MEASURED]
        if not len(indices):
            return {}
        parts = [indices[places] for places in self._samples.by_shape(indices)]
        with self.averaged(), self._precision():
            found = [self._errors_of(part) for part in parts]
        return {level: float(torch.cat([errors[level] for errors in found]).mean()) for level in LEVELS}

    def _errors_of(self, indices: Tensor) -> dict[float, Tensor]:
        """Error [B] at each noise level of held-out pictures of one shape."""
        x0 = self._codec.encode(self._samples.pictures(indices)).to(self._device)
        drawn = normal(self.config.train.seed, Purpose.EVALUATE, indices.to(self._drawn_on), tuple(x0.shape[1:]))
        noise = drawn.to(self._device)
        cond = self.denoiser.condition(self._samples.states(indices, torch.zeros_like(indices)))
        errors = {}
        for level in LEVELS:
            sigma = torch.full((len(x0),), level, device=self._device)
            denoised = self.denoiser(add_noise(x0, noise, sigma), sigma, cond)
            errors[level] = noise_error(denoised, x0, sigma)
        return errors

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The parts of a checkpoint: averaged weights (`model`), trained weights (`weights`) and `optimizer`."""
        return {
            "model": self._ema.state_dict(),
            "weights": {name: weight.detach() for name, weight in self.denoiser.named_parameters()},
            "optimizer": optimizer_state(self._optimizers, self.denoiser),
        }

    def counts(self) -> dict[str, int]:
        """The rest of a checkpoint: numbers."""
        return {
            "images_seen": self.images_seen,
            "num_skipped": self.num_skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
        }

    def load(self, tensors: Mapping[str, Mapping[str, Tensor]], counts: Mapping[str, int]) -> None:
        """Restore `tensors()` and `counts()` exactly. Raises CheckpointError if they belong to another model."""
        load_weights(self.denoiser, tensors["weights"])
        self._ema.load_state_dict(tensors["model"])
        load_optimizer_state(self._optimizers, self.denoiser, tensors["optimizer"])
        self.images_seen = counts["images_seen"]
        self.num_skipped = counts["num_skipped"]
        self._skipped_in_a_row = counts["skipped_in_a_row"]

    def _step(self) -> StepReport:
        train = self.config.train
        lr = lr_at(self.images_seen, train)
        self._optimizers.set_lr(lr)
        self._optimizers.zero_grad()
        loss = self._loss(torch.arange(self.images_seen, self.images_seen + train.batch_size))
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self._weights, train.clip_norm, foreach=True)
        loss_value, grad_norm = float(loss.detach()), float(norm)
        finite = math.isfinite(loss_value) and math.isfinite(grad_norm)
        self.images_seen += train.batch_size
        if finite:
            self._optimizers.step()
            self._ema.update(self.images_seen, train.batch_size)
            self._skipped_in_a_row = 0
        else:
            self._count_skipped(loss_value, grad_norm)
        return StepReport(self.images_seen, loss_value, grad_norm, lr, not finite)

    def _loss(self, positions: Tensor) -> Tensor:
        """Mean weighted error of the samples at `positions` [B]; each depends on its own position only."""
        return torch.cat([self._losses(part) for part in self._read(positions)]).mean()

    def _parts(self, positions: Tensor) -> list[Part]:
        """Read what is shown at `positions` [B], parted by shape."""
        train = self.config.train
        indices = self._shown[self._order.at(positions)]
        choice = caption_at(train.seed, positions)
        dropped = dropped_at(train.seed, positions, train.caption_dropout)
        parts = []
        for places in self._samples.by_shape(indices):
            states = self._samples.states(indices[places], choice[places])
            shown = [state[:0] if drop else state for state, drop in zip(states, dropped[places], strict=True)]
            parts.append(Part(positions[places], self._samples.pictures(indices[places]), shown))
        return parts

    def _losses(self, part: Part) -> Tensor:
        """Weighted errors [B] of samples of one shape."""
        noise_config = self.config.noise
        seed = self.config.train.seed
        x0 = self._x0(part)
        positions = part.positions.to(self._drawn_on)
        noise = normal(seed, Purpose.NOISE, positions, tuple(x0.shape[1:])).to(self._device)
        sigma = sigma_of(
            seed,
            positions,
            noise_config.log_sigma_mean,
            noise_config.log_sigma_std,
            noise_config.sigma_min,
            noise_config.sigma_max,
        ).to(self._device)
        weight = WEIGHTS[noise_config.weight](sigma, noise_config.sigma_data)
        with self._precision():
            cond: Conditioning = self.denoiser.condition(part.states)
            return diffusion_loss(lambda x, s: self.denoiser(x, s, cond), x0, noise, sigma, weight)

    def _x0(self, part: Part) -> Tensor:
        pictures = part.pictures
        if self.config.train.flip:
            mirrored = flip_at(self.config.train.seed, part.positions)[:, None, None, None]
            pictures = torch.where(mirrored, pictures.flip(-1), pictures)
        return self._codec.encode(pictures.to(self._device))

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16)

    def _count_skipped(self, loss: float, grad_norm: float) -> None:
        self.num_skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= MAX_SKIPPED:
            raise TrainingError(
                f"{MAX_SKIPPED} steps in a row had no finite gradient (loss {loss:g}, gradient {grad_norm:g}, "
                f"{self.images_seen} images seen); start again from a checkpoint with a lower --lr"
            )


@contextmanager
def _averaged(denoiser: Denoiser, ema: PowerEma) -> Iterator[None]:
    with ema.applied():
        denoiser.eval()
        try:
            yield
        finally:
            denoiser.train()


@torch.no_grad()
def load_weights(denoiser: Denoiser, weights: Mapping[str, Tensor]) -> None:
    """Copy `weights` into a denoiser. Raises CheckpointError naming the first that does not fit."""
    own = dict(denoiser.named_parameters())
    for name in sorted(set(own) ^ set(weights)):
        raise CheckpointError(f"the weights do not fit this model: {name} is {'missing' if name in own else 'unknown'}")
    for name, weight in own.items():
        if weights[name].shape != weight.shape:
            raise CheckpointError(
                f"the weights do not fit this model: {name} has shape {tuple(weights[name].shape)}, "
                f"not {tuple(weight.shape)}"
            )
        weight.copy_(weights[name])
