"""A training run from start to end: data, plan, steps, samples, checkpoints, finished model."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from tintype.config import Config
from tintype.data.sources.find import dataset_name
from tintype.errors import TrainingError
from tintype.model import checkpoint, manifest
from tintype.model.atomic_write import write_text
from tintype.model.file_names import CACHE_FOLDER, LOG, WEIGHTS
from tintype.training.checkpoints.run_folder import (
    RunLock,
    Stored,
    find_stored,
    locked,
    sweep,
    write_start,
)
from tintype.training.console import say
from tintype.training.core.device import choose_device, keep_memory
from tintype.training.core.exactness import deterministic, float32_products
from tintype.training.core.threads import ThreadTuner, is_fixed
from tintype.training.core.trainer import StepReport, Trainer
from tintype.training.monitor.log import Log
from tintype.training.monitor.log_rows import trim_log
from tintype.training.monitor.tensorboard import TensorBoardWriter
from tintype.training.parallel.world import World, init_processes, local_device
from tintype.training.session import Session
from tintype.training.setup import plan
from tintype.training.setup.budget import Budget
from tintype.training.setup.choices import with_batch_size, with_preset, with_resolution
from tintype.training.setup.compiling import may_compile, with_compiler
from tintype.training.setup.disk import DiskNeeds, most_checkpoints, require_disk
from tintype.training.setup.forecast import num_different
from tintype.training.setup.prepare import prepare
from tintype.training.setup.prepared import Prepared
from tintype.training.setup.regularization import with_regularization
from tintype.training.setup.request import TrainRequest
from tintype.training.setup.resolve_config import with_images
from tintype.training.signals import Interruption, Terminated
from tintype.training.summary import plan_json, say_complete, say_cut, say_done, say_plan, say_stopped

__all__ = ["Terminated", "TrainRequest", "train"]


def train(request: TrainRequest, console: Console | None = None) -> Path:
    """Start the run of a request, or resume the one in its folder. Returns that folder, now a model folder.

    Progress goes to `console`, by default to the standard output. dry_run prints the plan and keeps nothing. SIGINT and
    SIGTERM end the run after a checkpoint, with KeyboardInterrupt or Terminated (a SystemExit of code 143). Under
    torchrun all processes train together. Raises TintypeError.
    """
    for _ in training_steps(request, console or Console(), Interruption()):
        pass
    return request.out


def training_steps(request: TrainRequest, console: Console, interruption: Interruption) -> Iterator[StepReport]:
    """Train as `train` does, and yield a report after each step. Closing the iterator saves a checkpoint."""
    started = time.monotonic()
    device = choose_device(local_device(request.device))
    keep_memory()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())  # as they were, for programs that train
        if request.threads is not None:
            torch.set_num_threads(request.threads)
        if request.deterministic:
            stack.enter_context(deterministic(device))
        world = stack.enter_context(init_processes(device, shard=request.shard))
        console = console if world.is_main else Console(quiet=True)
        lock: RunLock | None = None
        if request.dry_run:
            run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tintype-")))
        else:
            run = request.out
            if world.is_main:
                lock = stack.enter_context(locked(run))
                sweep(run)
        if request.shard and not world.is_sharded:
            say(console, "note: --shard has no effect with one process; start several with torchrun")
        request = with_resolution(request, device, world, console)
        request = with_preset(request, device, world, console)
        request = with_batch_size(request, device, world, console)
        threads = _choose_threads(request, device, world, console)
        stored, prepared = _prepare(request, run, device, world, console)
        stack.enter_context(float32_products(tf32=prepared.tf32))
        if prepared.deterministic and not request.deterministic:  # the run was started so
            stack.enter_context(deterministic(device))
            threads = None
        config, budget, prepared = _plan(request, run, stored, prepared, world, started, console)
        if not request.dry_run:
            yield from _train(request, run, config, prepared, world, console, budget, interruption, threads, lock)


def _choose_threads(request: TrainRequest, device: torch.device, world: World, console: Console) -> ThreadTuner | None:
    """Use the threads that compute fastest now; None where the user, torchrun or a GPU leaves no choice."""
    is_free = request.threads is None and not is_fixed() and not request.deterministic
    if not is_free or device.type != "cpu" or world.size > 1:
        return None
    threads = ThreadTuner(torch.get_num_threads())
    if threads.threads < threads.most:
        torch.set_num_threads(threads.threads)
        say(console, f"{threads}; close them to train faster")
    return threads


def _prepare(
    request: TrainRequest, run: Path, device: torch.device, world: World, console: Console
) -> tuple[Stored | None, Prepared]:
    """The run to resume, if any, and everything that training needs: rank 0 prepares it, then the others read it."""
    if not world.is_main:
        world.barrier()
    stored = find_stored(request.out, request.resume)
    for damaged in stored.damaged if stored is not None else ():
        say(console, f"warning: {damaged}; resuming from an older checkpoint")
    prepared = prepare(request, run, stored, device, console)
    if world.is_main:
        world.barrier()
    choices = {"bf16": prepared.bf16, "tf32": prepared.tf32, "checkpoint": str(prepared.checkpoint or "")}
    choices = json.loads(world.broadcast(json.dumps(choices)))
    path = Path(choices["checkpoint"]) if choices["checkpoint"] else None
    return stored, replace(prepared, bf16=choices["bf16"], tf32=choices["tf32"], checkpoint=path)


def _train(
    request: TrainRequest,
    run: Path,
    config: Config,
    prepared: Prepared,
    world: World,
    console: Console,
    budget: Budget | None,
    interruption: Interruption,
    threads: ThreadTuner | None,
    lock: RunLock | None,
) -> Iterator[StepReport]:
    plan.reset_peak_memory()
    trainer = prepared.resumed_trainer(config, world)
    if (images_seen := _images_of_model(run, trainer.images_seen)) >= config.train.images:
        seconds = prepared.state.get("seconds")
        say_complete(run, images_seen, seconds, request.minutes, config.train, console)
        return
    _require_disk(run, config, _disk_needs(run, config, prepared, trainer, budget), world, console)
    if trainer.images_seen:
        say(console, f"resuming at {trainer.images_seen:,} of {config.train.images:,} images")
        if trainer.reset_moments:
            num = len(trainer.reset_moments)
            say(console, f"note: {num} weights have another optimizer now; their moments start from zero")
    else:
        say_cut(config, prepared, console)
    if world.is_main:
        choices = prepared.numerics().to_dict()
        write_start(run, config, prepared.tokenizer, prepared.dataset.data_json(), prepared.components.names(), choices)
        trim_log(run / LOG, trainer.images_seen)
    log = Log(run / LOG)
    if budget is not None:
        planned = {"asked_seconds": budget.seconds, "seconds": round(budget.planned_seconds, 3)}
        log.event(0, "planned", {**planned, "memory_bytes": budget.planned_memory})
    tensorboard = TensorBoardWriter(run) if request.tensorboard and world.is_main else None
    with interruption:
        name = dataset_name(request.data)
        session = Session(
            run,
            config,
            prepared,
            trainer,
            console,
            data=name,
            world=world,
            tensorboard=tensorboard,
            threads=threads,
            budget=budget,
            lock=lock,
        )
        yield from session.steps(interruption)
    if budget is not None:
        ended = {"seconds": round(budget.elapsed(), 3), "memory_bytes": plan.peak_memory()}
        log.event(trainer.images_seen, "ended", ended)
    say_stopped(trainer.config.train, console)
    say_done(run, prepared, console)


def _plan(
    request: TrainRequest,
    run: Path,
    stored: Stored | None,
    prepared: Prepared,
    world: World,
    started: float,
    console: Console,
) -> tuple[Config, Budget | None, Prepared]:
    """The configuration with its planned length, and the budget of a run with --time, on rank 0; prints the plan.

    Also what was prepared, now that it is known whether the run is compiled. A stored run keeps its length.
    """
    config, budget = prepared.config, None
    timed = request.minutes is not None and stored is None
    speed = None
    is_open = may_compile(request, prepared, world, is_new=stored is None)
    if timed or request.dry_run or is_open:
        say(console, "measuring the speed of some steps")
        speed = _speed(request, run, prepared, world, console)
    if is_open and speed is not None:
        measure = partial(_speed, request, run, world=world, console=console)
        prepared, speed = with_compiler(prepared, speed, request.minutes, measure, console)
    if timed and speed is not None and request.minutes is not None:
        remaining = 60 * request.minutes - (time.monotonic() - started)
        config = with_images(config, plan.images_within(remaining, speed, config.train))
    if speed is not None:
        config = replace(config, train=replace(config.train, micro_batch=speed.micro_batch))
    if stored is None:
        training, _ = prepared.dataset.split(config.train.held_out)
        config = with_regularization(config, request, num_different(prepared.dataset, training))
    if world.is_main:
        say_plan(config, prepared, speed, world, console)
        if request.plan is not None:
            write_text(request.plan, plan_json(config, prepared, speed))
        if timed and speed is not None and request.minutes is not None:
            planned = time.monotonic() - started + plan.expected_seconds(config.train.images, speed, config.train)
            budget = Budget(60 * request.minutes, started, speed, planned)
    if request.dry_run and speed is not None:
        _require_disk(request.out, config, _planned_disk_needs(request, config, prepared, speed), world, console)
    return Config.from_json(world.broadcast(config.to_json())), budget, prepared


def _images_of_model(run: Path, images_seen: int) -> int:
    """How many images the finished model in `run` has seen; 0 if there is none.

    images_seen: of the newest checkpoint, which a model without a record is as old as. A model may be newer than all
    checkpoints, where the last one could not be saved.
    """
    if not (run / WEIGHTS).is_file():
        return 0
    recorded = manifest.images_seen(run)
    return images_seen if recorded is None else recorded


def _require_disk(folder: Path, config: Config, needs: DiskNeeds, world: World, console: Console) -> None:
    """Raise TrainingError, in all processes, if the disk of rank 0 has no room for what the run must save."""
    refusal = ""
    if world.is_main:
        try:
            if warning := require_disk(folder, config.train, needs):
                say(console, f"warning: {warning}")
        except TrainingError as error:
            refusal = str(error)
    if refusal := world.broadcast(refusal):
        raise TrainingError(refusal)


def _disk_needs(run: Path, config: Config, prepared: Prepared, trainer: Trainer, budget: Budget | None) -> DiskNeeds:
    """What a run whose cache is complete will still write."""
    seconds = None if budget is None else budget.planned_seconds
    return DiskNeeds(
        trainer.checkpoint_bytes,
        trainer.model_bytes,
        most=most_checkpoints(config.train, seconds),
        present=len(checkpoint.checkpoints(run)),
        is_saved=trainer.images_seen >= config.train.images and prepared.is_saved(run, trainer.images_seen),
    )


def _planned_disk_needs(request: TrainRequest, config: Config, prepared: Prepared, speed: plan.Speed) -> DiskNeeds:
    """What the run of a plan would write."""
    seen = prepared.state.get("images_seen", 0)
    has_cache = request.cache is not None or (request.out / CACHE_FOLDER).is_dir()
    return DiskNeeds(
        speed.checkpoint_bytes,
        speed.model_bytes,
        most=most_checkpoints(config.train, plan.expected_seconds(config.train.images, speed, config.train)),
        present=len(checkpoint.checkpoints(request.out)),
        data_bytes=0 if has_cache else sum(prepared.dataset.sizes.values()),
        is_saved=seen >= config.train.images and prepared.is_saved(request.out, seen),
    )


def _speed(request: TrainRequest, run: Path, prepared: Prepared, world: World, console: Console) -> plan.Speed:
    with tempfile.TemporaryDirectory(prefix="tintype-") as scratch:
        trainer = prepared.new_trainer(prepared.config, world)
        session = Session(Path(scratch), prepared.config, prepared, trainer, console, data="", world=world)
        # A run of --images is only measured to know whether the compiler repays itself.
        minutes = request.minutes or (10.0 if request.dry_run else 1.0)
        return plan.measure(trainer, minutes, session.validate, world)
