"""Validation during training: a grid of samples, and errors on held-out and training pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tintype.config import Config
from tintype.errors import TintypeError, is_out_of_memory
from tintype.model import checkpoint
from tintype.pipeline.pipeline import Pipeline
from tintype.training.checkpoints.run_folder import SAMPLES
from tintype.training.core.trainer import Trainer
from tintype.training.core.validation_error import CAPTIONS, Captions, ValidationMetrics, by_level
from tintype.training.monitor.log import Log
from tintype.training.monitor.memorization_gauge import MemorizationGauge
from tintype.training.monitor.sample_grid import MAX_PICTURES, choose_captions, sample_grid
from tintype.training.parallel.world import World
from tintype.training.setup.budget import Budget
from tintype.training.setup.prepared import Prepared
from tintype.training.signals import Interruption

MAX_GRID_PIXELS = {"cpu": 2**17}  # of a grid of samples, so that validation stays cheap


class Validator:
    """Validates a trainer inside `averaged`, with the same captions, pictures and noise every time.

    `longer_seconds`: how long the errors of the longer average will take, by the newest measurement.
    """

    def __init__(self, run: Path, config: Config, prepared: Prepared, trainer: Trainer) -> None:
        self._folder = run / SAMPLES
        self._seed = config.train.seed
        self._trainer = trainer
        self._captions = choose_captions(prepared.dataset.captions, _num_sampled(config, prepared.device))
        self._gauge = None if config.distill.steps else MemorizationGauge(prepared.dataset, config)
        self.longer_seconds = 0.0

    def measure(
        self, seconds: float, captions: Sequence[Captions] = CAPTIONS
    ) -> Generator[object, None, ValidationMetrics]:
        """Errors on held-out pictures with `captions`, which include "true", and on training pictures.

        Empty without held-out pictures. In distillation, errors on training pictures are not measured. seconds: time
        trained so far. Yields in between, so that a caller may end it.
        """
        trainer, gauge = self._trainer, self._gauge
        start = time.perf_counter()
        errors: dict[str, Tensor] = dict((yield from trainer.measure_noise_errors(None, captions)).items())
        self.longer_seconds = (time.perf_counter() - start) / len(captions)
        if not len(errors["true"]):
            return ValidationMetrics(trainer.images_seen)
        memorization = {}
        if gauge is not None:
            start = time.perf_counter()
            errors["training"] = (yield from trainer.measure_noise_errors(gauge.indices, ["true"]))["true"]
            self.longer_seconds += time.perf_counter() - start
            ideal = yield from gauge.ideal_errors(seconds)
            memorization = gauge.ratios(errors["true"], errors["training"], ideal)
            if ideal is not None:
                errors["ideal"] = ideal
        means = {name: by_level(values, trainer.levels) for name, values in errors.items()}
        return ValidationMetrics(trainer.images_seen, means, memorization)

    def write_samples(self) -> Generator[object, None, None]:
        """Make a grid of samples and write it at the end. Yields after each step. Raises CheckpointError, OSError."""
        pipeline, denoised = Pipeline(self._trainer.denoiser), None
        for step in pipeline.stream(self._captions, seeds=self._seed):
            denoised = step.denoised
            yield step
        assert denoised is not None  # there is at least one step
        pictures = pipeline.pictures(denoised)
        self._folder.mkdir(exist_ok=True)
        content = sample_grid(pictures, self._captions)
        checkpoint.write_bytes(self._folder / f"seen-{self._trainer.images_seen:09d}.png", content)
        checkpoint.write_text(self._folder / "captions.txt", "".join(f"{caption}\n" for caption in self._captions))


class Validations:
    """The validations of a run, by rank 0 for all processes, with their rows in the log.

    `metrics`: of the newest one. All processes must call the methods together.

    Args:
        say: prints a line for people.
    """

    def __init__(
        self,
        validator: Validator,
        trainer: Trainer,
        world: World,
        log: Log,
        budget: Budget | None,
        say: Callable[[str], None],
    ) -> None:
        self.metrics = ValidationMetrics()
        self._validator = validator
        self._trainer = trainer
        self._world = world
        self._log = log
        self._budget = budget
        self._say = say

    def run(self, interruption: Interruption, seconds: float, *, again: bool = False) -> None:
        """Measure errors and make samples; what fails is a warning. seconds: time trained so far.

        A signal ends this early: without samples, and without errors too if they are not yet measured. again: the
        validation will then be repeated, so it is not logged.
        """
        self.metrics = ValidationMetrics()
        with self._trainer.averaged():
            if self._world.is_main:
                start = time.perf_counter()
                try:
                    self.metrics = interruption.finished(self._validator.measure(seconds)) or ValidationMetrics()
                    interruption.finished(self._validator.write_samples())
                except (TintypeError, OSError, RuntimeError, MemoryError) as error:
                    if not isinstance(error, TintypeError | OSError) and not is_out_of_memory(error):
                        raise
                    reason = "memory ran out" if is_out_of_memory(error) else error
                    self._say(f"warning: no samples: {reason}")
                self._log.write(None if again and interruption.received is not None else self.metrics)
                if self._budget is not None:
                    self._budget.validation(time.perf_counter() - start, self._validator.longer_seconds)
        self._world.barrier()

    def of_longer_average(self, interruption: Interruption, seconds: float) -> ValidationMetrics:
        """The errors of the longer average with true captions, on rank 0; none if a signal ends it early."""
        metrics = None
        with self._trainer.averaged(long=True):
            if self._world.is_main:
                metrics = interruption.finished(self._validator.measure(seconds, ["true"]))
        self._world.barrier()
        return metrics or ValidationMetrics()

    def at(self, images_seen: int) -> ValidationMetrics | None:
        """The metrics of the validation at `images_seen`, if there was one."""
        return self.metrics if self.metrics.images_seen == images_seen else None


def _num_sampled(config: Config, device: torch.device) -> int:
    pixels = MAX_GRID_PIXELS.get(device.type, 2**22)
    return max(4, min(MAX_PICTURES, pixels // config.net.resolution**2))
