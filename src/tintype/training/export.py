"""Export: the better of the two averages as a model folder, with its card and its errors."""

from __future__ import annotations

import json
from pathlib import Path

from tintype.config import Config
from tintype.model import checkpoint, manifest
from tintype.model.file_names import EVALUATION, WEIGHTS
from tintype.training.core.trainer import Trainer
from tintype.training.core.validation_error import ValidationMetrics
from tintype.training.model_card import model_card
from tintype.training.monitor.log import metrics_json
from tintype.training.monitor.sample_grid import choose_captions
from tintype.training.parallel.world import World
from tintype.training.setup.prepared import Prepared

CARD = "README.md"


def export_model(
    run: Path,
    config: Config,
    prepared: Prepared,
    trainer: Trainer,
    metrics: tuple[ValidationMetrics, ValidationMetrics],
    seconds: float,
    data: str,
    world: World,
) -> None:
    """Write the model, its manifest, the model card and evaluation.json. Raises CheckpointError or NotFiniteError.

    metrics: of the usual average and of the longer one, which becomes the model if its held-out error is lower. All
    processes must call it; rank 0, which alone has the metrics, writes.
    """
    usual, longer = (average.score for average in metrics)
    is_longer = world.any([usual is not None and longer is not None and longer < usual])[0]
    with trainer.averaged(long=is_longer):
        if world.is_main:
            best = metrics[is_longer]
            _write(run, config, prepared, trainer, is_longer=is_longer, metrics=best, seconds=seconds, data=data)


def _write(
    run: Path,
    config: Config,
    prepared: Prepared,
    trainer: Trainer,
    *,
    is_longer: bool,
    metrics: ValidationMetrics,
    seconds: float,
    data: str,
) -> None:
    """Write the current weights of `trainer` as the model, its card, and its errors as JSON."""
    training, held_out = prepared.dataset.split(config.train.held_out)
    card = model_card(
        run.resolve().name,
        config,
        data=data,
        num_training=len(training),
        num_held_out=len(held_out),
        num_left_out=sum(problem.left_out for problem in prepared.dataset.problems),
        fingerprint=prepared.dataset.fingerprint,
        num_weights=sum(weight.numel() for weight in trainer.denoiser.parameters()),
        images_seen=trainer.images_seen,
        seconds=seconds,
        ema_width=config.train.ema_width_long if is_longer else config.train.ema_width,
        metrics=metrics,
        caption=choose_captions(prepared.dataset.captions, 1)[0],
    )
    checkpoint.write_text(run / CARD, card)
    errors = {"images_seen": trainer.images_seen, **metrics_json(metrics)}
    checkpoint.write_text(run / EVALUATION, json.dumps(errors, indent=1, allow_nan=False) + "\n")
    weights = {name: weight.detach() for name, weight in trainer.denoiser.named_parameters()}
    manifest.remove(run)
    checkpoint.write_tensors(run / WEIGHTS, weights)
    manifest.write(run, trainer.images_seen)
