"""Looking at a model while it trains: a grid of samples, and errors on held-out and on training pictures."""

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
from tintype.training.monitor.memorization_gauge import Memory
from tintype.training.monitor.sample_grid import MAX_PICTURES, choose_captions, grid
from tintype.training.setup.prepare import Prepared
from tintype.training.signals import Interruption

SAMPLED_PIXELS = {"cpu": 2**17}  # in a grid of samples, at most, so that looking never costs much


class Validator:
    """Looks at the averaged weights of a trainer (inside `averaged`), at the same captions, pictures and noise."""

    def __init__(self, run: Path, config: Config, ready: Prepared, trainer: Trainer) -> None:
        self._folder = run / SAMPLES
        self._seed = config.train.seed
        self._trainer = trainer
        self._captions = choose_captions(ready.pack.captions, _num_sampled(config, ready.device))
        self._memory = None if config.distill.steps else Memory(ready.pack, config)

    def __call__(self, interruption: Interruption | None = None, seconds: float = 0.0) -> ValidationMetrics:
        """Measure errors and write a grid of samples, without it if interrupted; `seconds` were trained so far."""
        seen = self.measured(seconds)
        pipeline, denoised = Pipeline(self._trainer.denoiser), None
        for step in pipeline.stream(self._captions, seeds=self._seed):
            denoised = step.denoised
            if interruption is not None and interruption.received is not None:
                return seen
        assert denoised is not None  # there is at least one step
        pictures = pipeline.pictures(denoised)
        self._folder.mkdir(exist_ok=True)
        content = grid(pictures, self._captions)
        checkpoint.write_bytes(self._folder / f"seen-{self._trainer.images_seen:09d}.png", content)
        checkpoint.write_text(self._folder / "captions.txt", "".join(f"{caption}\n" for caption in self._captions))
        return seen

    def measured(self, seconds: float, asked: Sequence[Captions] = CAPTIONS) -> ValidationMetrics:
        """Errors on held-out pictures under the captions `asked`, "true" among them, and on training pictures.

        Without pictures held out there is nothing to see; of a student, nothing is said of training pictures.
        """
        trainer, memory = self._trainer, self._memory
        errors: dict[str, Tensor] = dict(trainer.noise_errors(None, asked).items())
        if not len(errors["true"]):
            return ValidationMetrics(trainer.images_seen)
        gauge = {}
        if memory is not None:
            errors["training"] = trainer.noise_errors(memory.pictures, ["true"])["true"]
            ideal = memory.ideal(seconds)
            gauge = memory.gauge(errors["true"], errors["training"], ideal)
            if ideal is not None:
                errors["ideal"] = ideal
        means = {what: by_level(found, trainer.levels) for what, found in errors.items()}
        return ValidationMetrics(trainer.images_seen, means, gauge)


def _num_sampled(config: Config, device: torch.device) -> int:
    pixels = SAMPLED_PIXELS.get(device.type, 2**22)
    return max(4, min(MAX_PICTURES, pixels // config.net.resolution**2))
