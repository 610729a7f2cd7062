"""Compare designs: train each for the same images or minutes, and say how well it sees the noise in pictures held out.

    python bench/recipe.py DATA [--minutes 5 | --images 12800] [--text learned] [--cache FOLDER] \\
        --set "" --set "net.patch=4,net.stem_levels=1" --set "train.lr=3e-3,noise.log_sigma_mean=0"

Each --set is one design: the preset with some settings replaced. Designs train one after another in one process, on the
same pictures, noise and order. The learning rate warms up and falls to zero within each. Errors are of the predicted
noise, by noise level, with the averaged weights; 1 is as wrong as saying nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from tintype.config import Config
from tintype.training.core.device import choose_device, keep_memory
from tintype.training.setup import plan
from tintype.training.setup.prepare import prepare
from tintype.training.setup.prepared import Prepared
from tintype.training.setup.request import TrainRequest
from tintype.training.setup.resolve_config import with_images


def design(config: Config, settings: str) -> Config:
    """`config` with settings such as "net.patch=4,train.lr=1e-3" replaced, all at once: width and heads must fit."""
    changed: dict[str, Any] = {}
    for setting in filter(None, settings.split(",")):
        name, value = setting.split("=")
        part, field = name.split(".")
        old = changed.get(part, getattr(config, part))
        changed[part] = dataclasses.replace(old, **{field: type(getattr(old, field))(value)})
    return dataclasses.replace(config, **changed)


def trained(ready: Prepared, config: Config, minutes: float | None) -> tuple[int, float, dict[float, float], int]:
    """Images seen, images per second, held-out error by noise level, number of weights."""
    if minutes is not None:
        speed = plan.measure(ready.new_trainer(config), minutes, lambda: None)
        images = int(minutes * 60 * speed.images_per_second) // config.train.batch_size * config.train.batch_size
        config = with_images(config, images)
    trainer = ready.new_trainer(config)
    start = time.perf_counter()
    for _ in trainer.steps(config.train.images):
        pass
    rate = trainer.images_seen / (time.perf_counter() - start)
    weights = sum(weight.numel() for weight in trainer.denoiser.parameters())
    return trainer.images_seen, rate, trainer.held_out_error(), weights


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare designs by what they learn in equal time or images.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="designs", help="settings of one design")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--images", type=int, default=12800)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--text", default="learned")
    parser.add_argument("--cache", type=Path, help="where the packed pictures may stay for the next time")
    options = parser.parse_args()

    keep_memory()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as scratch:
        request = TrainRequest(
            data=options.data,
            out=Path(scratch),
            images=options.images,
            preset=options.preset,
            resolution=options.resolution,
            text=options.text,
        )
        cache = options.cache or Path(scratch)
        cache.mkdir(parents=True, exist_ok=True)
        ready = prepare(request, cache, None, choose_device(None), console)
        for settings in options.designs or [""]:
            config = design(ready.config, settings)
            images, rate, errors, weights = trained(ready, config, options.minutes)
            error_text = "  ".join(f"{level:g}: {error:.5f}" for level, error in errors.items())
            size = f"{weights / 1e6:.2f}M weights"
            print(f"{settings or options.preset}  {size}  {images:,} images  {rate:.1f} images/s  {error_text}")


if __name__ == "__main__":
    main()
