"""Validation during training: a grid of samples, and errors on held-out and training pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tintype.config import Config
from tintype.model import checkpoint
from tintype.pipeline.pipeline import Pipeline
from tintype.training.checkpoints.run_folder import SAMPLES
from tintype.training.core.trainer import Trainer
from tintype.training.core.validation_error import CAPTIONS, Captions, ValidationMetrics, by_level
from tintype.training.monitor.memorization_gauge import MemorizationGauge
from tintype.training.monitor.sample_grid import MAX_PICTURES, choose_captions, sample_grid
from tintype.training.setup.prepare import Prepared
from tintype.training.signals import Interruption

MAX_GRID_PIXELS = {"cpu": 2**17}  # of a grid of samples, so that validation stays cheap


class Validator:
    """Validates a trainer inside `averaged`, with the same captions, pictures and noise every time."""

    def __init__(self, run: Path, config: Config, prepared: Prepared, trainer: Trainer) -> None:
        self._folder = run / SAMPLES
        self._seed = config.train.seed
        self._trainer = trainer
        self._captions = choose_captions(prepared.dataset.captions, _num_sampled(config, prepared.device))
        self._gauge = None if config.distill.steps else MemorizationGauge(prepared.dataset, config)

    def __call__(self, interruption: Interruption | None = None, seconds: float = 0.0) -> ValidationMetrics:
        """Measure errors and write a grid of samples, or no grid if interrupted. seconds: time trained so far."""
        metrics = self.measure(seconds)
        pipeline, denoised = Pipeline(self._trainer.denoiser), None
        for step in pipeline.stream(self._captions, seeds=self._seed):
            denoised = step.denoised
            if interruption is not None and interruption.received is not None:
                return metrics
        assert denoised is not None  # there is at least one step
        pictures = pipeline.pictures(denoised)
        self._folder.mkdir(exist_ok=True)
        content = sample_grid(pictures, self._captions)
        checkpoint.write_bytes(self._folder / f"seen-{self._trainer.images_seen:09d}.png", content)
        checkpoint.write_text(self._folder / "captions.txt", "".join(f"{caption}\n" for caption in self._captions))
        return metrics

    def measure(self, seconds: float, captions: Sequence[Captions] = CAPTIONS) -> ValidationMetrics:
        """Errors on held-out pictures with `captions`, which include "true", and on training pictures.

        Empty without held-out pictures. In distillation, errors on training pictures are not measured.
        """
        trainer, gauge = self._trainer, self._gauge
        errors: dict[str, Tensor] = dict(trainer.noise_errors(None, captions).items())
        if not len(errors["true"]):
            return ValidationMetrics(trainer.images_seen)
        memorization = {}
        if gauge is not None:
            errors["training"] = trainer.noise_errors(gauge.indices, ["true"])["true"]
            ideal = gauge.ideal_errors(seconds)
            memorization = gauge.ratios(errors["true"], errors["training"], ideal)
            if ideal is not None:
                errors["ideal"] = ideal
        means = {name: by_level(values, trainer.levels) for name, values in errors.items()}
        return ValidationMetrics(trainer.images_seen, means, memorization)


def _num_sampled(config: Config, device: torch.device) -> int:
    pixels = MAX_GRID_PIXELS.get(device.type, 2**22)
    return max(4, min(MAX_PICTURES, pixels // config.net.resolution**2))
