"""The training loop of a token model: the order, optimizers, averages and exact resume of the diffusion models.

positions k .. k + B - 1 -> samples, captions -> tokens -> bits of each token after those before it -> optimizers ->
averages. There is no noise: what is random is which samples come, and which captions are dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from tintype.errors import NotFiniteError
from tintype.tokens.config import TokenConfig
from tintype.tokens.model import TokenModel
from tintype.training.core.batches import Reader, Samples
from tintype.training.core.ema import PowerEma
from tintype.training.core.objective import ShapeBatch
from tintype.training.core.optim import Optimizers, load_optimizer_state, lr_at, make_optimizers, optimizer_state
from tintype.training.core.trainer import MAX_SKIPPED, StepReport
from tintype.training.core.weights import load_weights

MEASURED = 512  # held-out pictures of a measurement
MEASURED_BATCH = 64


class TokenTrainer:
    """Trains a token model in place; `tensors()` and `counts()` are its whole state, `load` restores them.

    Two trainers of equal arguments and state continue bit for bit alike.

    Args:
        model: its encoder must be that of the samples.
        samples: pictures of one shape and text embeddings by index, as a cache of the data has them.
        bf16: compute the network in bfloat16 where PyTorch holds that to be safe, and so Muon; weights and loss stay
            float32.
    """

    def __init__(
        self, model: TokenModel, samples: Samples, config: TokenConfig, device: torch.device, *, bf16: bool = False
    ) -> None:
        self.model = model.train()
        self.config = config
        self.images_seen = 0
        self._skipped = 0  # steps in a row without a finite gradient
        self._samples = samples
        self._codebook = model.codebook.to(device)
        self._device = device
        self._bf16 = bf16
        training, self._held_out = samples.split(config.train.held_out)
        self._read = Reader(samples, training, config.train, 0)
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._optimizers = make_optimizers(model, config.train, bf16=bf16)
        self._ema = PowerEma(model, config.train.ema_width)

    def steps(self, until: int) -> Iterator[StepReport]:
        """Train until at least `until` images were seen; a report after each step, its loss in bits a token.

        Raises NotFiniteError after MAX_SKIPPED steps in a row without a finite gradient.
        """
        while self.images_seen < until:
            yield self._step()
            if self._skipped >= MAX_SKIPPED:
                raise NotFiniteError(f"{MAX_SKIPPED} steps in a row had no finite gradient; train with a lower --lr")

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """A `with` block in which `model` has the averaged weights, for evaluation."""
        with self._ema.applied():
            self.model.eval()
            try:
                yield
            finally:
                self.model.train()

    def held_out_bits(self) -> float | None:
        """Bits a token on held-out pictures with their captions, of the averaged weights; None if nothing is held out.

        Raises no error: the measurement draws nothing at random.
        """
        indices = self._held_out[:MEASURED]
        if not len(indices):
            return None
        total, num = 0.0, 0
        with self.averaged(), torch.no_grad():
            for rows in torch.split(indices, MEASURED_BATCH):
                embeddings = self._samples.text_embeddings(rows, torch.zeros_like(rows))
                bits = self._bits(self._samples.pictures(rows), embeddings)
                total, num = total + float(bits.sum()), num + bits.numel()
        return total / num

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The parts of a checkpoint: the average (`model`), `weights` and `optimizer`."""
        assert isinstance(self._optimizers, Optimizers)
        weights = {name: weight.detach() for name, weight in self.model.named_parameters()}
        optimizer = optimizer_state(self._optimizers, self.model)
        return {"model": self._ema.state_dict(), "weights": weights, "optimizer": optimizer}

    def counts(self) -> dict[str, int]:
        """The counters in a checkpoint."""
        return {"images_seen": self.images_seen, "skipped_in_a_row": self._skipped}

    def load(self, tensors: Mapping[str, Mapping[str, Tensor]], counts: Mapping[str, int]) -> None:
        """Restore `tensors()` and `counts()` exactly. Raises CheckpointError if they belong to another model."""
        load_weights(self.model, tensors["weights"])
        self._ema.load_state_dict(tensors["model"])
        load_optimizer_state(self._optimizers, self.model, tensors["optimizer"])
        self.images_seen = counts["images_seen"]
        self._skipped = counts["skipped_in_a_row"]

    def _bits(self, pictures: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """Bits of each token [B, T]."""
        tokens = self._codebook.encode(pictures.to(self._device))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            bits: Tensor = self.model(tokens, self.model.condition(embeddings))
            return bits

    def _step(self) -> StepReport:
        train = self.config.train
        size = train.batch_size
        lr = lr_at(self.images_seen, train)
        self._optimizers.set_lr(lr)
        self._optimizers.zero_grad()
        batches = self._read(torch.arange(self.images_seen, self.images_seen + size), size)
        losses = torch.cat([self._backward(batch, size) for batch in batches])
        norm = torch.nn.utils.clip_grad_norm_(self._weights, train.clip_norm, foreach=True)
        loss, grad_norm = float(losses.mean()), float(norm)
        finite = math.isfinite(loss) and math.isfinite(grad_norm)
        self.images_seen += size
        if finite:
            self._optimizers.step()
            self._ema.update(self.images_seen, size)
        self._skipped = 0 if finite else self._skipped + 1
        return StepReport(self.images_seen, loss, grad_norm, lr, not finite, losses)

    def _backward(self, batch: ShapeBatch, size: int) -> Tensor:
        """Add the gradient of the mean loss, in nats, in micro-batches; returns bits a token of each picture [B]."""
        losses = []
        step = self.config.train.micro_batch or len(batch.positions)
        for start in range(0, len(batch.positions), step):
            part = batch.slice(start, start + step)
            bits = self._bits(part.pictures, part.text_embeddings).mean(1)
            torch.autograd.backward(bits.sum() * (math.log(2) / size))
            losses.append(bits.detach())
        return torch.cat(losses)
