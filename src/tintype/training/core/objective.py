"""The training objective: samples and noise of given positions -> weighted error per sample.

It is one module, so that data-parallel and sharded training wrap text layers and network together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tintype.config import Config, NoiseConfig
from tintype.data.order import flip_at
from tintype.diffusion.loss import LossWeight, diffusion_loss, loss_weight
from tintype.diffusion.noise import Purpose, add_noise, normal
from tintype.model.codec import make_codec
from tintype.model.denoiser import Denoiser
from tintype.model.nets.conditioning import Conditioning, pad_embeddings
from tintype.model.network import num_dropped
from tintype.training.core.compiled import COMPILER, Backend, Batch, CompiledErrors, padded_length
from tintype.training.core.dropout import kept_at, noisy_embeddings, shortened
from tintype.training.core.memorized_band import MemorizedBand
from tintype.training.core.target import CleanPicture, Target


class ShapeBatch(NamedTuple):
    """Samples whose pictures have one shape."""

    positions: Tensor  # [B] in the run
    pictures: Tensor  # [B, 3, H, W] uint8
    text_embeddings: Sequence[Tensor]  # one ragged tensor per caption; without rows where the caption is dropped
    sigma_factor: float = 1.0  # times the noise levels at these positions
    labels: Tensor | None = None  # [B, K] how the pictures were changed, where they are

    def slice(self, start: int, end: int) -> ShapeBatch:
        """The samples from `start` to `end`."""
        rows = slice(start, end)
        return self._replace(
            positions=self.positions[rows],
            pictures=self.pictures[rows],
            text_embeddings=self.text_embeddings[rows],
            labels=None if self.labels is None else self.labels[rows],
        )


def micro_batches(batches: Sequence[ShapeBatch], size: int) -> list[list[ShapeBatch]]:
    """Split a step into micro-batches of up to `size` samples of one shape; with size 0 it is one micro-batch."""
    if size == 0:
        return [list(batches)]
    return [[batch.slice(start, start + size)] for batch in batches for start in range(0, len(batch.positions), size)]


class Objective(nn.Module):
    """Samples -> weighted errors. Each error depends on its own sample and position alone.

    Args:
        bf16: compute the network in bfloat16 where PyTorch holds that to be safe.
        target: what the denoiser learns to predict; None: the clean picture.
        weight: of each noise level in the loss; None: as configured.
        band: noise levels that count less; None: all count.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        config: Config,
        device: torch.device,
        *,
        bf16: bool,
        target: Target | None = None,
        weight: LossWeight | None = None,
        band: MemorizedBand | None = None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.target: Target = target or CleanPicture(config)
        self._config = config
        self._weight = weight or partial(_configured_weight, config.noise)
        self._band = band
        self._device = device
        self._bf16 = bf16
        # Random draws need float64, which some devices lack.
        self._draw_device = device if device.type in ("cpu", "cuda") else torch.device("cpu")
        self._codec = make_codec(config.net)
        self._compiled: CompiledErrors | None = None

    def compile_errors(self, *, fixed_batch: bool, backend: Backend = COMPILER) -> None:
        """Compute the errors of samples as compiled graphs from now on: see `CompiledErrors`."""
        self._compiled = CompiledErrors(self.errors, fixed_batch=fixed_batch, backend=backend)

    @property
    def num_graphs(self) -> int | None:
        """The number of compiled graphs so far; None without a compiler."""
        return None if self._compiled is None else self._compiled.num_graphs

    def forward(self, batches: Sequence[ShapeBatch]) -> Tensor:
        """Weighted errors [B] of all samples, batch after batch."""
        return torch.cat([self._losses(batch) for batch in batches])

    def x0(self, pictures: Tensor) -> Tensor:
        """Pictures uint8 [B, 3, H, W] encoded for the network, on its device."""
        return self._codec.encode(pictures.to(self._device))

    def normal(self, purpose: Purpose, positions: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The noise [B, *shape] at `positions` [B], on the device of the network."""
        return normal(self._config.train.seed, purpose, positions.to(self._draw_device), shape).to(self._device)

    def precision(self) -> torch.autocast:
        """A `with` block in which the network computes as in training."""
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16)

    def _losses(self, batch: ShapeBatch) -> Tensor:
        pictures = batch.pictures
        seed = self._config.train.seed
        if self._config.train.flip:
            mirrored = flip_at(seed, batch.positions)[:, None, None, None]
            pictures = torch.where(mirrored, pictures.flip(-1), pictures)
        x0 = self.x0(pictures)
        noise = self.normal(Purpose.NOISE, batch.positions, tuple(x0.shape[1:]))
        sigma = batch.sigma_factor * self.target.sigmas(batch.positions.to(self._draw_device)).to(self._device)
        weight = self._weight(sigma)
        if self._band is not None:
            weight = weight * self._band.weight(sigma)
        with self.precision():
            x = add_noise(x0, noise, sigma)
            target = self.target(x0, x, sigma, batch.text_embeddings)
        train, at = self._config.train, batch.positions
        embeddings = noisy_embeddings(train, at, shortened(train, at, batch.text_embeddings))
        labels = None if batch.labels is None else batch.labels.to(self._device)
        kept = self._kept(batch.positions)
        if self._compiled is None:
            text = pad_embeddings(embeddings, self._device)
            return self.errors(Batch(x, target, sigma, weight, *text, labels, kept))
        length = padded_length(max(map(len, embeddings)), self._config.text.max_tokens)
        text = pad_embeddings(embeddings, self._device, length)
        text_rope = self.denoiser.text.positions(length)
        positions = self.denoiser.positions(x.shape[-2], x.shape[-1], self._device)
        return self._compiled(Batch(x, target, sigma, weight, *text, labels, kept, text_rope, positions))

    def errors(self, batch: Batch) -> Tensor:
        """The weighted errors [B] of samples of one shape: text layers, network and loss."""
        with self.precision():
            cond: Conditioning = self.denoiser.text.refine(batch.text, batch.mask, batch.text_rope)
            return diffusion_loss(
                lambda x, sigma: self.denoiser(x, sigma, cond, batch.labels, batch.kept, batch.positions),
                batch.x,
                batch.target,
                batch.sigma,
                batch.weight,
            )

    def _kept(self, positions: Tensor) -> Tensor | None:
        """The factors of dropout at `positions` [B]: [B, F]; None without dropout."""
        train, num = self._config.train, num_dropped(self.denoiser.net)
        if not train.dropout or not num:
            return None
        return kept_at(train, positions.to(self._draw_device), num).to(self._device)


def _configured_weight(noise: NoiseConfig, sigma: Tensor) -> Tensor:
    return loss_weight(noise.weight, sigma, noise.sigma_data, noise.weight_fade)
