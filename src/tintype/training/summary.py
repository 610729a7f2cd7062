"""What a run says to people about itself: its plan at the start, and what can be done with it at the end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console

from tintype.config import Config, TrainConfig
from tintype.model import store
from tintype.model.custom import OF_MODEL
from tintype.model.file_names import WEIGHTS
from tintype.training.checkpoints.run_folder import SAMPLES
from tintype.training.console import duration, say
from tintype.training.model_card import generate_command
from tintype.training.monitor.sample_grid import choose_captions
from tintype.training.parallel.world import World
from tintype.training.setup import plan
from tintype.training.setup.forecast import forecast_sentence, memorizing_begins, num_different
from tintype.training.setup.prepared import Prepared
from tintype.training.setup.regularization import regularization_text

_MINUTE = 60.0
_MUCH_LONGER = 1.5  # times what a run took: whoever asks for that much may want it to go on


def say_plan(config: Config, prepared: Prepared, speed: plan.Speed | None, world: World, console: Console) -> None:
    """Print what the run is made of and, where its speed was measured, how long it will take and what it needs."""
    net, train = config.net, config.train
    precision = "bfloat16" if prepared.bf16 else "TF32" if prepared.tf32 else "float32"
    if prepared.compiled:
        precision += ", compiled"
    if prepared.deterministic:
        precision += ", deterministic"
    training, held_out = prepared.dataset.split(train.held_out)
    say(console, f"data: {len(training):,} pictures to train on, {len(held_out):,} held out for validation")
    say(
        console,
        f"model: {config.preset}, {net.resolution}x{net.resolution} pixels, width {net.width}, depth {net.depth}, "
        f"text {config.text.encoder}; on {prepared.device}, {precision}",
    )
    data_bytes = sum(prepared.dataset.sizes.values())
    epoch_length = prepared.dataset.order(train.seed, training).epoch_length
    if text := regularization_text(train, num_different(prepared.dataset, training)):
        say(console, text)
    lines = plan.plan_lines(config, len(training), speed, data_bytes, world.size, epoch_length)
    if prepared.initial is None and prepared.checkpoint is None:
        lines += filter(None, [plan.short_note(config, speed)])
    for line in lines:
        say(console, line)
    if not config.distill.steps:
        begins = memorizing_begins(config, num_different(prepared.dataset, training))
        say(console, f"by heart: {forecast_sentence(begins, train)}")


def plan_json(config: Config, prepared: Prepared, speed: plan.Speed | None) -> str:
    """What `say_plan` prints, as JSON; times in seconds, None where no speed was measured."""
    train = config.train
    training, held_out = prepared.dataset.split(train.held_out)
    data_bytes = sum(prepared.dataset.sizes.values())
    begins = memorizing_begins(config, num_different(prepared.dataset, training))
    content: dict[str, Any] = {
        "pictures": len(training),
        "held_out": len(held_out),
        "preset": config.preset,
        "resolution": config.net.resolution,
        "text": config.text.encoder,
        "device": str(prepared.device),
        "regularization": regularization_text(train, num_different(prepared.dataset, training)),
        "images": train.images,
        "batch_size": train.batch_size,
        "times_each": round(train.images / len(training), 2),
        "memorizing_begins": begins,
        "forecast": forecast_sentence(begins, train),
        "stop_early": train.stop_early,
        "few_pictures": train.images > begins,
    }
    if speed is not None:
        seconds = plan.expected_seconds(train.images, speed, train)
        content |= {
            "seconds": round(seconds, 1),
            "compiled": prepared.compiled,
            "compile_seconds": round(speed.compile_seconds, 1),
            "images_per_second": round(speed.mean_images_per_second(train), 2),
            "weights": speed.num_weights,
            "checkpoint_bytes": speed.checkpoint_bytes,
            "disk_bytes": plan.disk_bytes(train, speed, seconds, data_bytes),
            "memory_bytes": speed.memory_bytes,
        }
    return json.dumps(content, indent=1) + "\n"


def say_cut(config: Config, prepared: Prepared, console: Console) -> None:
    """Print how many captions the text encoder cuts, if any."""
    num_cut = prepared.encoder.num_cut([caption for captions in prepared.dataset.captions for caption in captions])
    if num_cut:
        say(console, f"note: {num_cut:,} captions are longer than {config.text.max_tokens} tokens and were cut")


def say_stopped(train: TrainConfig, console: Console) -> None:
    """Print why a run ended that stopped by itself; nothing for others."""
    if train.planned_images:
        say(
            console,
            f"stopped at {train.images:,} of {train.planned_images:,} images: from here on it would only have learned "
            "its pictures by heart",
        )


def say_done(run: Path, prepared: Prepared, console: Console) -> None:
    """Print where the model is, and a command line to copy that makes a picture with it."""
    say(console, f"done: {run / WEIGHTS}; samples are in {run / SAMPLES}")
    model = str(run) if str(run) not in store.shipped() else f"./{run}"
    can_copy = model.isprintable() and " ".join(model.split()) == model
    if not can_copy or set(prepared.components.names()) & set(OF_MODEL):  # those need Python
        return
    captions = choose_captions(prepared.dataset.captions)
    caption = min(captions, key=lambda caption: (not caption.strip(), len(caption)))
    say(console, f"  {generate_command(caption, model)}")


def say_complete(
    run: Path, images_seen: int, seconds: float | None, minutes: float | None, train: TrainConfig, console: Console
) -> None:
    """Print that a run has nothing left to do, and how it goes on.

    seconds: that its training took, if that is known. minutes: of --time, if that was given.
    """
    took = f" in {duration(seconds)}" if seconds else ""
    say(console, f"the run in {run} is complete: {images_seen:,} images{took}; nothing to do")
    if train.planned_images:
        say(
            console,
            f"it stopped by itself, before it would only have learned its pictures by heart; --no-stop trains it on to "
            f"{train.planned_images:,} images",
        )
    elif seconds and minutes is not None and _MINUTE * minutes > _MUCH_LONGER * seconds:
        images = math.ceil(images_seen / seconds * _MINUTE * minutes / train.batch_size) * train.batch_size
        total = duration(_MINUTE * minutes)
        say(
            console,
            f"--time sets the length of a new run: to train this one for {total} in all, give --images {images}",
        )
    else:
        say(console, f"to train it further, give a larger number of --images, such as {2 * images_seen}")
