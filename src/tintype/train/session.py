"""The loop around the steps: what is shown, sampled, saved and left behind."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tintype import checkpoint
from tintype.config import Config
from tintype.errors import CheckpointError, TintypeError
from tintype.pipeline import Pipeline
from tintype.train.card import model_card
from tintype.train.folder import CONFIG, LOG, SAMPLES, STATE, TOKENIZER
from tintype.train.grid import MAX_PICTURES, choose_captions, grid
from tintype.train.interrupt import Interruption
from tintype.train.log import Display, Log, say
from tintype.train.prepare import Prepared
from tintype.train.trainer import StepReport, Trainer

KEPT = 3  # checkpoints
MODEL, CARD = "model.safetensors", "README.md"
SAMPLED_PIXELS = {"cpu": 2**17}  # in a grid of samples, at most, so that looking never costs much
_MINUTE = 60.0


class Session:
    """A run from where it stands to its end, or to an interruption.

    Args:
        data: name of the data folder, for the model card.
        seconds: spent in training before.
    """

    def __init__(
        self, run: Path, config: Config, ready: Prepared, trainer: Trainer, console: Console, *, data: str
    ) -> None:
        self._run = run
        self._config = config
        self._ready = ready
        self._trainer = trainer
        self._console = console
        self._data = data
        self._seconds = float(ready.state.get("seconds", 0.0))
        self._log = Log(run / LOG)
        self._captions = choose_captions(ready.pack.captions, _num_sampled(config, ready.device))
        self._pipeline = Pipeline(trainer.denoiser)
        self._saved_at = self._sampled_at = time.monotonic()

    def go(self, interruption: Interruption) -> None:
        """Train to the end and leave a model folder. Raises what `interruption` says, once everything is saved."""
        images, size = self._config.train.images, self._config.train.batch_size
        with Display(self._console, images, self._trainer.images_seen) as display:
            start = time.perf_counter()
            for report in self._trainer.steps(images):
                seconds = time.perf_counter() - start
                self._seconds += seconds
                self._log.step(report, size, seconds)
                display.step(report, size, seconds)
                self._between_steps(report, interruption)
                start = time.perf_counter()
        self._finish(interruption)

    def sample(self, interruption: Interruption | None = None) -> dict[float, float]:
        """Write a grid of samples and return the held-out error; stops early when interrupted."""
        errors = self._trainer.held_out_error()
        with self._trainer.averaged():
            denoised = None
            for step in self._pipeline.stream(self._captions, seeds=self._config.train.seed):
                denoised = step.denoised
                if interruption is not None and interruption.received is not None:
                    return errors
            assert denoised is not None  # there is at least one step
            pictures = self._pipeline.pictures(denoised)
        folder = self._run / SAMPLES
        folder.mkdir(exist_ok=True)
        content = grid(pictures, self._captions)
        checkpoint.write_bytes(folder / f"seen-{self._trainer.images_seen:09d}.png", content)
        checkpoint.write_text(folder / "captions.txt", "".join(f"{caption}\n" for caption in self._captions))
        return errors

    def save(self) -> None:
        """Save a checkpoint, point `latest` at it and delete the oldest. Raises CheckpointError or TrainingError."""
        place = checkpoint.step_folder(self._run, self._trainer.images_seen // self._config.train.batch_size)
        texts = {CONFIG: self._config.to_json(), STATE: json.dumps(self._state(), indent=2) + "\n"}
        if self._ready.tokenizer is not None:
            texts[TOKENIZER] = self._ready.tokenizer
        checkpoint.save_parts(place, self._trainer.tensors(), texts)
        checkpoint.write_latest(self._run, place)
        checkpoint.prune(self._run, KEPT)
        self._saved_at = time.monotonic()

    def _between_steps(self, report: StepReport, interruption: Interruption) -> None:
        train = self._config.train
        if report.skipped:
            self._say(f"a step had no finite gradient and was skipped, at {report.images_seen:,} images")
        if interruption.received is not None:
            self.save()
            self._say(f"stopped at {report.images_seen:,} images and saved; run the same command again to go on")
            raise interruption.error()
        if report.images_seen >= train.images:
            return  # the end saves and samples anyway
        if time.monotonic() - self._sampled_at >= train.sample_minutes * _MINUTE:
            self._try_to_sample(interruption)
        if time.monotonic() - self._saved_at >= train.save_minutes * _MINUTE:
            self._try_to_save()

    def _try_to_save(self) -> None:
        try:
            self.save()
        except CheckpointError as error:  # a full disk may have room again later; the one before is still there
            self._say(f"warning: {error}; training goes on")
            self._saved_at = time.monotonic()

    def _try_to_sample(self, interruption: Interruption) -> dict[float, float]:
        errors: dict[float, float] = {}
        try:
            errors = self.sample(interruption)
        except (TintypeError, OSError) as error:
            self._say(f"warning: no samples: {error}")
        self._log.write(errors)
        self._sampled_at = time.monotonic()
        return errors

    def _finish(self, interruption: Interruption) -> None:
        errors = self._try_to_sample(interruption)
        self.save()
        denoiser, (shown, held_out) = self._trainer.denoiser, self._ready.pack.split(self._config.train.held_out)
        card = model_card(
            self._run.resolve().name,
            self._config,
            data=self._data,
            num_shown=len(shown),
            num_held_out=len(held_out),
            num_left_out=sum(problem.left_out for problem in self._ready.pack.problems),
            fingerprint=self._ready.pack.fingerprint,
            num_weights=sum(weight.numel() for weight in denoiser.parameters()),
            images_seen=self._trainer.images_seen,
            seconds=self._seconds,
            noise_error=errors,
            caption=self._captions[0],
        )
        checkpoint.write_text(self._run / CARD, card)
        checkpoint.write_tensors(self._run / MODEL, self._trainer.tensors()["model"])

    def _state(self) -> dict[str, Any]:
        return {
            **self._trainer.counts(),
            "fingerprint": self._ready.pack.fingerprint,
            "device": self._ready.device.type,
            "bf16": self._ready.bf16,
            "seconds": round(self._seconds, 3),
            "torch": str(torch.__version__),
        }

    def _say(self, text: str) -> None:
        say(self._console, text)


def _num_sampled(config: Config, device: torch.device) -> int:
    pixels = SAMPLED_PIXELS.get(device.type, 2**22)
    return max(4, min(MAX_PICTURES, pixels // config.net.resolution**2))
