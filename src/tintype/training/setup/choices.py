"""What a request leaves open: resolution, preset and batch that fit the time on this machine, measured by rank 0."""

from __future__ import annotations

import json
from dataclasses import replace

import torch
from rich.console import Console

from tintype.config import Config, DataConfig
from tintype.data.sources.find import find_pairs
from tintype.errors import ConfigError
from tintype.model.file_names import CONFIG
from tintype.training.console import say
from tintype.training.core.device import bf16_is_faster
from tintype.training.core.exactness import float32_products, has_tf32
from tintype.training.parallel.world import World
from tintype.training.setup.auto_batch import LARGEST_TRIED, SMALLEST, best_batch_size, lr_for, measure_steps
from tintype.training.setup.auto_preset import SIZES, auto_preset
from tintype.training.setup.auto_resolution import auto_resolution
from tintype.training.setup.plan import FIXED_UP_TO
from tintype.training.setup.request import TrainRequest
from tintype.training.setup.resolve_config import preset_for


def with_resolution(request: TrainRequest, device: torch.device, world: World, console: Console) -> TrainRequest:
    """The request, with the largest resolution that fits if it asks for that. A stored run keeps its own.

    Raises ConfigError for a run that starts from a model.
    """
    if not request.auto_resolution or _is_stored(request):
        return request
    if request.from_model is not None or request.config is not None:
        raise ConfigError("--resolution auto is for new models; give a number of pixels, or leave it out")
    choice = ""
    if world.is_main:
        say(console, "measuring which resolution fits")
        options = request.data_options.applied_to(DataConfig.of_new_runs())
        resolution, reason = auto_resolution(
            find_pairs(request.data, options)[0],
            options,
            device,
            preset=request.preset,
            minutes=request.minutes,
            num_processes=world.size,
        )
        say(console, f"resolution: {resolution} pixels; {reason}")
        choice = str(resolution)
    return replace(request, resolution=int(world.broadcast(choice)))


def with_preset(request: TrainRequest, device: torch.device, world: World, console: Console) -> TrainRequest:
    """The request, with a preset for its time if it leaves that open and there is a choice."""
    largest = preset_for(device, request.resolution)
    is_chosen = request.preset is not None or request.from_model is not None or request.config is not None
    if is_chosen or _is_stored(request) or request.minutes is None or largest == SIZES[0]:
        return request
    preset = ""
    if world.is_main:
        say(console, "measuring which preset fits the time")
        seconds = 60 * request.minutes * world.size
        preset = auto_preset(largest, seconds, request.resolution, device, bf16=bf16_is_faster(device)).preset
    return replace(request, preset=world.broadcast(preset))


def with_batch_size(request: TrainRequest, device: torch.device, world: World, console: Console) -> TrainRequest:
    """The request, with the batch size that learns most in its time, and a learning rate to go with it.

    On a CPU presets with small batches keep them. So do runs of a given length, stored runs, and runs that start from
    a model.
    """
    is_chosen = request.batch_size is not None or request.from_model is not None or request.config is not None
    if is_chosen or _is_stored(request) or request.minutes is None:
        return request
    config = Config.from_preset(request.preset or preset_for(device, request.resolution), request.resolution)
    if device.type == "cpu" and config.train.batch_size <= FIXED_UP_TO:
        return request
    choice: dict[str, float] = {}
    if world.is_main:
        say(console, "measuring which batch size fits the time")
        with float32_products(tf32=has_tf32(device)):
            step = measure_steps(config, device, bf16=bf16_is_faster(device))
        step = replace(step, per_image=step.per_image / world.size)
        smallest = max(SMALLEST, world.size)
        largest = max(config.train.batch_size, LARGEST_TRIED)
        size = best_batch_size(60 * request.minutes, step, largest, smallest)
        choice = {"batch_size": size, "lr": request.lr or lr_for(config, size)}
        say(console, f"batch: {size} pictures; {step}")
    choice = json.loads(world.broadcast(json.dumps(choice)))
    return replace(request, batch_size=int(choice["batch_size"]), lr=choice["lr"])


def _is_stored(request: TrainRequest) -> bool:
    return request.resume not in ("auto", "never") or (request.out / CONFIG).is_file()
