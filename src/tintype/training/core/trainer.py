"""The training loop: every random draw is a function of the position in the run.

positions k .. k + B - 1 -> samples, captions, flips, noise levels, noise -> loss -> optimizers -> averages
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from tintype.config import Config
from tintype.data.thread_pool import finished
from tintype.errors import ConfigError, NotFiniteError, is_out_of_memory
from tintype.model.denoiser import Denoiser
from tintype.training.core.batches import Reader, Samples
from tintype.training.core.compiled import Backend, compile_parts, compiler_errors
from tintype.training.core.components import Components
from tintype.training.core.ema import PowerEma
from tintype.training.core.gradient import Gradient
from tintype.training.core.memorized_band import MemorizedBand
from tintype.training.core.objective import Objective
from tintype.training.core.optim import load_optimizer_state, lr_at, make_optimizers, optimizer_state, state_bytes
from tintype.training.core.target import CleanPicture, Target
from tintype.training.core.validation_error import (
    CAPTIONS,
    MAX_MEASURED,
    Captions,
    ValidationMetrics,
    by_level,
    noise_errors,
)
from tintype.training.core.weights import load_weights
from tintype.training.parallel.world import World, full_tensor

MAX_SKIPPED = 8  # consecutive steps without a finite gradient, before training fails


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step of training did, as `train` and `Trainer.steps` yield it.

    `loss` and `grad_norm` are of this batch alone and noisy: plot a mean over some steps. `validation`, where errors
    were measured after the step, has `noise_error` (noise level -> mean square error of the predicted noise on held-out
    pictures), `score` (their geometric mean, lower is better) and `errors` (also for shuffled and empty captions).
    """

    images_seen: int
    loss: float  # weighted, mean over the batch
    grad_norm: float  # before clipping
    lr: float
    skipped: bool  # the loss or gradient was not finite, so the weights did not change
    losses: Tensor = field(default_factory=lambda: torch.zeros(0), compare=False, repr=False)  # [B], by position
    validation: ValidationMetrics | None = field(default=None, compare=False)  # measured after this step


class Trainer:
    """The loop of training below `tintype.train`, without folders, plan and checkpoints.

        trainer = Trainer(Denoiser(config, tokenizer), samples, config, torch.device("cpu"))
        for report in trainer.steps(until=config.train.images):
            print(report.loss)
        with trainer.averaged():
            Pipeline(trainer.denoiser).generate("a red circle")

    `tensors()` and `counts()` are the whole state; `load` restores them. Two trainers of equal arguments and state
    continue bit for bit alike.

    Args:
        denoiser: is trained in place; `averaged` lends it the averaged weights.
        samples: pictures and text embeddings by index, as a cache of the data has them.
        config: all of it; `config.train` sets batch, learning rate and length.
        device: of the network.
        bf16: compute the network in bfloat16 where PyTorch holds that to be safe, and so Muon; weights and loss stay
            float32.
        ahead: batches that are read while others are computed, for samples that take time to read.
        world: the processes that train together; each computes its share of every batch.
        target: what the denoiser learns to predict; None: the clean picture.
        components: its loss weight and optimizer take the place of those that are configured.
        compiler: backend of `torch.compile` for network and loss, or for the blocks of a sharded model; None: no
            compiler. Results differ by rounding from those without it.

    Raises ConfigError for a batch or an optimizer that cannot be used.
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
        world: World | None = None,
        target: Target | None = None,
        components: Components | None = None,
        compiler: Backend | None = None,
    ) -> None:
        self._world = world or World()
        if config.train.batch_size < self._world.size:
            raise ConfigError(f"a batch of {config.train.batch_size} is too small for {self._world.size} processes")
        self.denoiser = denoiser.train()  # evaluated inside `averaged`
        self.config = config
        self.images_seen = 0
        self.num_skipped = 0
        self._skipped_in_a_row = 0
        self.reset_moments: list[str] = []  # names of weights that another optimizer stepped before
        self._samples = samples
        self._training, self._held_out = samples.split(config.train.held_out)
        self._read = Reader(samples, self._training, config.train, ahead, config.net.multiple)
        self._device = device
        self._trained = self._sharded_copy() if self._world.is_sharded else self.denoiser
        components = components or Components()
        target = target or CleanPicture(config, components.noise_levels)
        self._band = MemorizedBand(config.train, target.levels, self._training, self._held_out)
        make_objective = partial(
            Objective,
            config=config,
            device=device,
            bf16=bf16,
            target=target,
            weight=components.loss_weight,
            band=self._band if config.train.memorized_limit else None,
        )
        self._objective = make_objective(self._trained)
        if compiler is not None:
            fixed = len(samples.by_shape(self._training)) == 1 and not config.train.half_size
            if self._world.is_sharded:
                compile_parts(self._trained, fixed_sizes=fixed, backend=compiler)
            else:
                self._objective.compile_errors(fixed_batch=fixed, backend=compiler)
        module = self._world.wrap(self._objective, device)
        self._eval_objective = make_objective(self.denoiser)
        self._weights = [weight for weight in self._trained.parameters() if weight.requires_grad]
        self._optimizers = make_optimizers(
            self._trained, config.train, world=self._world, bf16=bf16, factory=components.optimizer
        )
        self._gradient = Gradient(
            self._read, self._objective, module, self._optimizers, self._world, config.train.micro_batch
        )
        self._ema = PowerEma(self._trained, config.train.ema_width)
        self._long_ema = PowerEma(self._trained, config.train.ema_width_long)

    @property
    def micro_batch(self) -> int:
        """Pictures computed at once, halved when memory runs out; 0: the whole batch."""
        return self._gradient.micro_batch

    @property
    def num_graphs(self) -> int | None:
        """The number of compiled graphs so far; None without a compiler, or of a sharded model, which counts none."""
        return self._objective.num_graphs

    def set_images(self, images: int, planned_images: int = 0) -> None:
        """Move the end of the run, before the learning rate falls. planned_images: see `TrainConfig`."""
        train = replace(self.config.train, images=images, planned_images=planned_images)
        self.config = replace(self.config, train=train)
        self._read.set_config(self.config.train)

    def set_average(self, weights: Mapping[str, Tensor]) -> None:
        """Make these weights by name the usual average. Raises CheckpointError if they belong to another model."""
        self._ema.load_state_dict(weights)

    def steps(self, until: int) -> Iterator[StepReport]:
        """Train until at least `until` images were seen, and yield a report after each step.

        Raises NotFiniteError after MAX_SKIPPED consecutive steps without a finite gradient.
        """
        while self.images_seen < until:
            yield self._step()
            if self._skipped_in_a_row >= MAX_SKIPPED:
                raise NotFiniteError(
                    f"{MAX_SKIPPED} steps in a row, up to image {self.images_seen:,}, had no finite gradient"
                )

    @contextmanager
    def averaged(self, *, long: bool = False) -> Iterator[None]:
        """A `with` block in which `denoiser` has the averaged weights, for evaluation. long: the longer average.

        All processes must enter it together; with a sharded model only rank 0 has all weights of `denoiser`.
        """
        ema = self._long_ema if long else self._ema
        with self._gathered(ema) if self._world.is_sharded else ema.applied():
            self.denoiser.eval()
            try:
                yield
            finally:
                self.denoiser.train()

    def held_out_error(self, captions: Captions = "true", *, long: bool = False) -> dict[float, float]:
        """Mean of `noise_errors` on held-out pictures by noise level; empty if nothing is held out.

        captions: "true", "shuffled" or "empty". long: of the longer average. All processes must call it together.
        """
        with self.averaged(long=long):
            return by_level(self.noise_errors(None, [captions])[captions], self.levels)

    @property
    def levels(self) -> Sequence[float]:
        """Noise levels at which errors are measured."""
        return self._objective.target.levels

    def noise_errors(
        self, indices: Tensor | None = None, captions: Sequence[Captions] = CAPTIONS
    ) -> dict[Captions, Tensor]:
        """Mean squared error of the predicted noise of each picture at each of `levels`: [N, K], by captions.

        indices: [N] of the samples; None: held-out ones. The noise is the same every time, the weights are the current
        ones of `denoiser`: call it inside `averaged`. Empty where another process has the weights.
        """
        return finished(self.measure_noise_errors(indices, captions))

    def measure_noise_errors(
        self, indices: Tensor | None = None, captions: Sequence[Captions] = CAPTIONS
    ) -> Generator[int, None, dict[Captions, Tensor]]:
        """`noise_errors` in parts: yields after each of them, so that a caller may end it."""
        indices = self._held_out[:MAX_MEASURED] if indices is None else indices
        if self._world.is_sharded and not self._world.is_main:
            indices = indices[:0]
        return (yield from noise_errors(self._eval_objective, self._samples, indices, captions))

    def samples_at(self, positions: Tensor) -> Tensor:
        """The indices int64 [B] of the samples at `positions` [B] in the run."""
        return self._read.at(positions)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The parts of a checkpoint: averages (`model`, and the longer `model_long`), `weights` and `optimizer`.

        With a sharded model every tensor is a DTensor.
        """
        return {
            "model": self._ema.state_dict(),
            "model_long": self._long_ema.state_dict(),
            "weights": self.weights(),
            "optimizer": optimizer_state(self._optimizers, self._trained),
        }

    @property
    def checkpoint_bytes(self) -> int:
        """The size of `tensors()` after the first step, of all processes together; see `optim.state_bytes`."""
        weights = sum(weight.nbytes for weight in self._trained.parameters())
        copies = 3 + self.config.train.stop_early  # the weights and their two averages, and the best so far
        return copies * weights + state_bytes(self._optimizers, self._trained)

    @property
    def model_bytes(self) -> int:
        """The size of the finished model."""
        return sum(weight.nbytes for weight in self.denoiser.parameters())

    def weights(self) -> dict[str, Tensor]:
        """The trained weights by name."""
        return {name: weight.detach() for name, weight in self._trained.named_parameters()}

    def counts(self) -> dict[str, int]:
        """The counters in a checkpoint."""
        return {
            "images_seen": self.images_seen,
            "num_skipped": self.num_skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
            **self._band.counts(),
        }

    def load(self, tensors: Mapping[str, Mapping[str, Tensor]], counts: Mapping[str, int]) -> None:
        """Restore `tensors()` and `counts()` exactly. Raises CheckpointError if they belong to another model.

        Checkpoints without the longer average, from old versions, start it as a copy of the usual one.
        """
        load_weights(self._trained, tensors["weights"])
        self._ema.load_state_dict(tensors["model"])
        self._long_ema.load_state_dict(tensors.get("model_long", tensors["model"]))
        self.reset_moments = load_optimizer_state(self._optimizers, self._trained, tensors["optimizer"])
        self.images_seen = counts["images_seen"]
        self.num_skipped = counts["num_skipped"]
        self._skipped_in_a_row = counts["skipped_in_a_row"]
        self._band.load(counts)

    def roll_back(self, tensors: Mapping[str, Mapping[str, Tensor]], counts: Mapping[str, int]) -> None:
        """Restore the weights of an earlier state, and skip the samples since. Raises CheckpointError."""
        seen, skipped = self.images_seen, self.num_skipped
        self.load(tensors, counts)
        self.images_seen, self.num_skipped, self._skipped_in_a_row = seen, skipped, 0

    def _step(self) -> StepReport:
        train = self.config.train
        lr = lr_at(self.images_seen, train)
        self._optimizers.set_lr(lr)
        with compiler_errors():
            losses = self._gradient(torch.arange(self.images_seen, self.images_seen + train.batch_size))
        norm = torch.nn.utils.clip_grad_norm_(self._weights, train.clip_norm, foreach=True)
        loss, grad_norm = float(losses.mean()), float(full_tensor(norm))
        finite = math.isfinite(loss) and math.isfinite(grad_norm)
        self.images_seen += train.batch_size
        if finite:
            self._step_optimizers()
            self._ema.update(self.images_seen, train.batch_size)
            self._long_ema.update(self.images_seen, train.batch_size)
            self._skipped_in_a_row = 0
        else:
            self.num_skipped += 1
            self._skipped_in_a_row += 1
        if self._band.is_due(self.images_seen - train.batch_size, self.images_seen):
            self._measure_band()
        return StepReport(self.images_seen, loss, grad_norm, lr, not finite, losses)

    def _measure_band(self) -> None:
        """Measure how far training pictures are easier than held-out ones; the weights of noise levels follow."""
        band = self._band
        with self.averaged():
            unseen, seen = (self.noise_errors(part, ["true"])["true"] for part in (band.held_out, band.training))
        if self._world.is_main:
            band.update(unseen, seen)
        band.load(json.loads(self._world.broadcast(json.dumps(band.counts()))))

    def _step_optimizers(self) -> None:
        """Step the optimizers, whose first step allocates. Raises ConfigError if memory runs out."""
        try:
            self._optimizers.step()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # Some weights are stepped and some are not, so nothing can be repeated, or saved.
            raise ConfigError(
                "memory ran out in a step of the optimizer; train a smaller --preset, or close other programs: the "
                "same command resumes from the last checkpoint"
            ) from None

    def _sharded_copy(self) -> Denoiser:
        """The denoiser to shard; `self.denoiser` stays complete, in the memory of rank 0 alone."""
        from tintype.training.parallel.sharding import meta_copy

        copy = meta_copy(self.denoiser)
        if not self._world.is_main:
            self.denoiser.to("meta")
        return copy

    @contextmanager
    def _gathered(self, ema: PowerEma) -> Iterator[None]:
        """A `with` block in which `denoiser` has all averaged weights, on rank 0 alone."""
        weights = dict(self.denoiser.named_parameters())
        for name, average in ema.state_dict().items():
            full = full_tensor(average)
            if self._world.is_main:
                weights[name].detach().copy_(full)
        if self._world.is_main:
            self.denoiser.to(self._device)
        try:
            yield
        finally:
            if self._world.is_main:
                self.denoiser.to("cpu")
