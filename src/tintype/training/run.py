"""A whole training run: data, plan, steps, samples, checkpoints, and the finished model."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console

from tintype.config import Config
from tintype.data.sources.find import dataset_name
from tintype.model.store import WEIGHTS
from tintype.training.checkpoints.run_folder import CONFIG, LOG, Stored, find_stored, locked, sweep, write_start
from tintype.training.console import say
from tintype.training.core.device import bf16_is_faster, choose_device, keep_memory
from tintype.training.core.trainer import StepReport
from tintype.training.monitor.log import Log, trim_log
from tintype.training.monitor.tensorboard import TensorBoardWriter
from tintype.training.parallel.world import World, init_processes, local_device
from tintype.training.session import Session
from tintype.training.setup import plan
from tintype.training.setup.auto_preset import SIZES, auto_preset
from tintype.training.setup.prepare import Prepared, prepare
from tintype.training.setup.request import TrainRequest
from tintype.training.setup.resolve_config import preset_for, with_images
from tintype.training.signals import Interruption, Terminated

__all__ = ["Terminated", "TrainRequest", "train"]


def train(request: TrainRequest, console: Console | None = None) -> Path:
    """Train as asked, or go on with the run that is in the folder. Returns that folder, now a model folder.

    Progress goes to `console`, else to the standard output. With dry_run the plan is printed and nothing is kept.
    SIGINT and SIGTERM end the run after a checkpoint: KeyboardInterrupt, and Terminated (a SystemExit of code 143).
    Under torchrun all processes train together. Raises TintypeError.
    """
    for _ in training_steps(request, console or Console(), Interruption()):
        pass
    return request.out


def training_steps(request: TrainRequest, console: Console, interruption: Interruption) -> Iterator[StepReport]:
    """Train as `train` does: a report after each step. Closing the iterator saves a checkpoint and ends the run."""
    started = time.monotonic()
    device = choose_device(local_device(request.device))
    keep_memory()
    with ExitStack() as stack:
        world = stack.enter_context(init_processes(device, shard=request.shard))
        console = console if world.is_main else Console(quiet=True)
        if request.dry_run:
            run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tintype-")))
        else:
            run = request.out
            if world.is_main:
                stack.enter_context(locked(run))
                sweep(run)
        if request.shard and not world.is_sharded:
            say(console, "note: --shard is for several processes, started by torchrun; one alone has the whole model")
        request = _with_preset(request, device, world, console)
        stored, ready = _prepared(request, run, device, world, console)
        config, seconds = _planned(request, run, stored, ready, world, started, console)
        if not request.dry_run:
            budget = Budget(started, seconds) if seconds and request.minutes and world.is_main else None
            yield from _train(request, run, config, ready, world, console, budget, interruption)


class Budget(NamedTuple):
    """A budget of time that a run is planned to fill."""

    started: float  # by the monotonic clock, at the start of the command
    seconds: float  # expected, from there to the finished model


def _with_preset(request: TrainRequest, device: torch.device, world: World, console: Console) -> TrainRequest:
    """The request with the preset and batch that suit its time, if it leaves the choice and there is one."""
    largest = preset_for(device, request.resolution)
    is_given = request.preset is not None or request.from_model is not None or request.config is not None
    is_stored = request.resume not in ("auto", "never") or (request.out / CONFIG).is_file()
    if is_given or is_stored or request.minutes is None or largest == SIZES[0]:
        return request
    chosen = {"preset": "", "batch_size": 0}
    if world.is_main:
        say(console, "measuring which preset suits the time")
        seconds = 60 * request.minutes * world.size
        found = auto_preset(largest, seconds, request.resolution, device, bf16=bf16_is_faster(device))
        chosen = {"preset": found.preset, "batch_size": request.batch_size or found.train.batch_size}
    told = json.loads(world.broadcast(json.dumps(chosen)))
    return replace(request, preset=told["preset"], batch_size=told["batch_size"])


def _prepared(
    request: TrainRequest, run: Path, device: torch.device, world: World, console: Console
) -> tuple[Stored | None, Prepared]:
    """What the run goes on from and needs: found out by the first process, then read by the others."""
    if not world.is_main:
        world.barrier()
    stored = find_stored(request.out, request.resume)
    for damaged in stored.damaged if stored is not None else ():
        say(console, f"warning: {damaged} is damaged; going on from an older checkpoint")
    ready = prepare(request, run, stored, device, console)
    if world.is_main:
        world.barrier()
    decided = json.loads(world.broadcast(json.dumps({"bf16": ready.bf16, "checkpoint": str(ready.checkpoint or "")})))
    place = Path(decided["checkpoint"]) if decided["checkpoint"] else None
    return stored, replace(ready, bf16=decided["bf16"], checkpoint=place)


def _train(
    request: TrainRequest,
    run: Path,
    config: Config,
    ready: Prepared,
    world: World,
    console: Console,
    budget: Budget | None,
    interruption: Interruption,
) -> Iterator[StepReport]:
    trainer = ready.resumed(config, world)
    if trainer.images_seen >= config.train.images and (run / WEIGHTS).is_file():
        say(console, f"the run in {run} is complete: {trainer.images_seen:,} images; nothing to do")
        return
    if trainer.images_seen:
        say(console, f"going on at {trainer.images_seen:,} of {config.train.images:,} images")
        if trainer.reset_moments:
            num = len(trainer.reset_moments)
            say(console, f"note: {num} weights have another optimizer now; their moments start from zero")
    else:
        _say_cut(config, ready, console)
    if world.is_main:
        write_start(run, config, ready.tokenizer, ready.pack.data_json(), ready.components.names())
        trim_log(run / LOG, trainer.images_seen)
    log = Log(run / LOG)
    if budget is not None and request.minutes is not None:
        log.event(0, "planned", {"asked_seconds": 60 * request.minutes, "seconds": round(budget.seconds, 3)})
    tensorboard = TensorBoardWriter(run) if request.tensorboard and world.is_main else None
    with interruption:
        name = dataset_name(request.data)
        session = Session(run, config, ready, trainer, console, data=name, world=world, tensorboard=tensorboard)
        yield from session.steps(interruption)
    if budget is not None:
        log.event(config.train.images, "ended", {"seconds": round(time.monotonic() - budget.started, 3)})
    say(console, f"done: {run / WEIGHTS}; samples are in {run / 'samples'}")


def _planned(
    request: TrainRequest,
    run: Path,
    stored: Stored | None,
    ready: Prepared,
    world: World,
    started: float,
    console: Console,
) -> tuple[Config, float | None]:
    """The configuration with its final length, told to the user, and when the run will end if that was measured.

    Seconds from the start of the command. A stored run keeps the length it was started with.
    """
    config, end = ready.config, None
    timed = request.minutes is not None and stored is None
    speed = None
    if timed or request.dry_run:
        say(console, "measuring some steps")
        speed = _speed(request, run, ready, world, console)
    if timed and speed is not None and request.minutes is not None:
        left = 60 * request.minutes - (time.monotonic() - started)
        config = with_images(config, plan.images_within(left, speed, config.train))
    if speed is not None:
        config = replace(config, train=replace(config.train, micro_batch=speed.micro_batch))
    if world.is_main:
        _say_plan(config, ready, speed, world, console)
        if speed is not None:
            end = time.monotonic() - started + plan.expected_seconds(config.train.images, speed, config.train)
    return Config.from_json(world.broadcast(config.to_json())), end


def _speed(request: TrainRequest, run: Path, ready: Prepared, world: World, console: Console) -> plan.Speed:
    with tempfile.TemporaryDirectory(prefix="tintype-") as scratch:
        trainer = ready.fresh(ready.config, world)
        session = Session(Path(scratch), ready.config, ready, trainer, console, data="", world=world)
        return plan.measure(trainer, request.minutes or 10.0, session.validate, world)


def _say_plan(config: Config, ready: Prepared, speed: plan.Speed | None, world: World, console: Console) -> None:
    net, train = config.net, config.train
    shown, held_out = ready.pack.split(train.held_out)
    say(console, f"data: {len(shown):,} pictures to train on, {len(held_out):,} held out to measure")
    say(
        console,
        f"model: {config.preset}, {net.resolution}x{net.resolution} pixels, width {net.width}, depth {net.depth}, "
        f"text {config.text.encoder}; on {ready.device}, {'bfloat16' if ready.bf16 else 'float32'}",
    )
    for line in plan.plan_lines(config, len(shown), speed, sum(ready.pack.sizes.values()), world.size):
        say(console, line)


def _say_cut(config: Config, ready: Prepared, console: Console) -> None:
    cut = ready.encoder.num_cut([caption for own in ready.pack.captions for caption in own])
    if cut:
        say(console, f"note: {cut:,} captions are longer than {config.text.max_tokens} tokens and were cut")
