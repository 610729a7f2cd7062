"""Looking at a model while it trains: a grid of samples, and the error on held-out pictures."""

from __future__ import annotations

from pathlib import Path

import torch

from tintype import checkpoint
from tintype.config import Config
from tintype.pipeline import Pipeline
from tintype.train.folder import SAMPLES
from tintype.train.grid import MAX_PICTURES, choose_captions, grid
from tintype.train.held_out import Seen
from tintype.train.interrupt import Interruption
from tintype.train.prepare import Prepared
from tintype.train.trainer import Trainer

SAMPLED_PIXELS = {"cpu": 2**17}  # in a grid of samples, at most, so that looking never costs much


class Look:
    """Looks at the averaged weights of a trainer (inside `averaged`), at the same captions, pictures and noise."""

    def __init__(self, run: Path, config: Config, ready: Prepared, trainer: Trainer) -> None:
        self._folder = run / SAMPLES
        self._seed = config.train.seed
        self._trainer = trainer
        self._captions = choose_captions(ready.pack.captions, _num_sampled(config, ready.device))

    def __call__(self, interruption: Interruption | None = None) -> Seen:
        """Measure the held-out error and write a grid of samples, without the grid if interrupted."""
        errors = self._trainer.errors_now()
        seen = Seen(self._trainer.images_seen, {captions: found for captions, found in errors.items() if found})
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


def _num_sampled(config: Config, device: torch.device) -> int:
    pixels = SAMPLED_PIXELS.get(device.type, 2**22)
    return max(4, min(MAX_PICTURES, pixels // config.net.resolution**2))
