"""The session: training steps with progress, validation and checkpoints between them, and recovery from NaN."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tintype.config import Config
from tintype.errors import CheckpointError, NotFiniteError, TintypeError, TrainingError, is_out_of_memory
from tintype.model import checkpoint
from tintype.model.custom import to_json
from tintype.model.file_names import COMPONENTS, CONFIG, LOG, STATE, TOKENIZER
from tintype.printable import printable
from tintype.training.checkpoints.checkpointer import HELD_OUT_ERROR, Checkpointer, read_parts
from tintype.training.checkpoints.run_folder import RunLock, load_state
from tintype.training.console import say
from tintype.training.core.threads import ThreadTuner
from tintype.training.core.trainer import StepReport, Trainer
from tintype.training.core.validation_error import ValidationMetrics
from tintype.training.export import export_model
from tintype.training.monitor.log import Display, Log
from tintype.training.monitor.spikes import Spikes, largest_losses
from tintype.training.monitor.tensorboard import TensorBoardWriter
from tintype.training.monitor.validate import Validator
from tintype.training.parallel.world import World
from tintype.training.setup.prepare import Prepared, numerics
from tintype.training.signals import Interruption

MAX_RETURNS = 3  # returns to a checkpoint after NaN or infinity, before the run fails
_MINUTE = 60.0
_LOCK_SECONDS = 1.0  # between looks at whether the run folder is still at its path
_SAVE_EARLY = 0.9  # share of the save interval after which a validation also saves, so that the state has its error


class Session:
    """Trains a run from its current state to its end, or to an interruption.

    Args:
        data: name of the data folder, for the model card.
        world: the processes that train together; rank 0 alone writes.
        tensorboard: also gets the rows of the log.
        threads: the number of threads is chosen again while training; None: it stays.
        lock: of the run folder; the run fails once that folder is no longer at its path.
    """

    def __init__(
        self,
        run: Path,
        config: Config,
        prepared: Prepared,
        trainer: Trainer,
        console: Console,
        *,
        data: str,
        world: World | None = None,
        tensorboard: TensorBoardWriter | None = None,
        threads: ThreadTuner | None = None,
        lock: RunLock | None = None,
    ) -> None:
        self._run = run
        self._lock = lock
        self._lock_checked_at = time.monotonic()
        self._config = config
        self._prepared = prepared
        self._trainer = trainer
        self._console = console
        self._data = data
        self._world = world or World()
        self._seconds = float(prepared.state.get("seconds", 0.0))
        self._log = Log(run / LOG, tensorboard)
        self._validator = Validator(run, config, prepared, trainer)
        self._checkpointer = Checkpointer(run, config.train, self._world)
        self._metrics = ValidationMetrics()
        self._spikes = Spikes()
        self._threads = threads
        self._micro_batch = trainer.micro_batch
        self._num_returns = self._num_unreadable = 0
        self._saved_at = self._validated_at = time.monotonic()

    def steps(self, interruption: Interruption) -> Iterator[StepReport]:
        """Train to the end and leave a model folder: a report after each step, the last once that folder is complete.

        A report has the errors that were measured after its step, if any. Closing the iterator saves a checkpoint.
        Raises `interruption.error()` once everything is saved, if a signal came.
        """
        images = self._config.train.images
        last = None
        try:
            with Display(self._console, images, self._trainer.images_seen) as display:
                while self._trainer.images_seen < images:
                    try:
                        last = yield from self._steps(display, interruption)
                    except NotFiniteError as error:
                        self._roll_back(error)
            self._finish(interruption)
            if last is not None:
                yield replace(last, validation=self._metrics)
        finally:
            self._checkpointer.close()

    def validate(self) -> ValidationMetrics:
        """Write a grid of samples and measure the held-out errors. All processes must call it; rank 0 does the work."""
        with self._trainer.averaged():
            return self._validator() if self._world.is_main else ValidationMetrics()

    def save(self) -> None:
        """Start to save a checkpoint. Raises the error of the previous save: CheckpointError or NotFiniteError."""
        self._saved_at = time.monotonic()
        self._check_lock()
        if self._world.is_sharded:
            self._wait_for_save()  # all processes save, or none does
            self._world.barrier()
        elif not self._world.is_main:
            return
        folder = checkpoint.step_folder(self._run, self._trainer.images_seen // self._config.train.batch_size)
        texts = {CONFIG: self._config.to_json(), STATE: json.dumps(self._state(), indent=2) + "\n"}
        if names := self._prepared.components.names():
            texts[COMPONENTS] = to_json(names)
        if self._prepared.tokenizer is not None:
            texts[TOKENIZER] = self._prepared.tokenizer
        self._checkpointer.save(folder, self._trainer.tensors(), texts)

    def _steps(self, display: Display, interruption: Interruption) -> Generator[StepReport, None, StepReport | None]:
        """Train to the end, and report all steps but the last, which is returned."""
        size, images = self._config.train.batch_size, self._config.train.images
        start = time.perf_counter()
        for report in self._trainer.steps(images):
            seconds = time.perf_counter() - start
            self._seconds += seconds
            if self._world.is_main:
                self._log.step(report, size, seconds)
            display.step(report, size, seconds)
            if interruption.status_requested:
                interruption.status_requested = False
                self._say(display.status())
                self._log.write()
            self._choose_threads(seconds)
            self._after_step(report, interruption)
            if report.images_seen >= images:
                return report
            try:
                with interruption.released():
                    yield replace(report, validation=self._measured_at(report.images_seen))
            except GeneratorExit:
                self._save_and_wait()
                raise
            start = time.perf_counter()
        return None

    def _after_step(self, report: StepReport, interruption: Interruption) -> None:
        self._report_events(report)
        if time.monotonic() - self._lock_checked_at >= _LOCK_SECONDS:
            self._check_lock()
        train, now = self._config.train, time.monotonic()
        ended = report.images_seen >= train.images  # the end validates and saves anyway
        validate = not ended and now - self._validated_at >= train.sample_minutes * _MINUTE
        since = (now - self._saved_at) / (train.save_minutes * _MINUTE)
        save = not ended and not report.skipped and since >= (_SAVE_EARLY if validate else 1.0)
        main = self._world.is_main
        flags = [interruption.received is not None, main and validate, main and save, self._save_found_nan()]
        stop, validate, save, is_broken = self._world.any(flags)
        if stop:
            self._stop(interruption)
        if is_broken:
            raise NotFiniteError("the weights contain NaN or infinity")
        if validate:
            self._try_to_validate(interruption)
        if save:
            self._try_to_save()

    def _choose_threads(self, seconds: float) -> None:
        """Use fewer threads while other programs take their cores, and all of them afterwards."""
        if self._threads is not None and self._threads.after_step(seconds):
            torch.set_num_threads(self._threads.threads)
            self._log.event(self._trainer.images_seen, "threads", {"threads": self._threads.threads})
            self._say(f"{self._threads}: training continues with that")

    def _check_lock(self) -> None:
        """Raise TrainingError if the run folder was moved or deleted, before anything is written to its old path."""
        self._lock_checked_at = time.monotonic()
        if self._lock is not None:
            self._lock.check()

    def _report_events(self, report: StepReport) -> None:
        if self._trainer.micro_batch != self._micro_batch:
            self._micro_batch = self._trainer.micro_batch
            self._say(f"memory ran out: now {self._micro_batch} pictures at a time; the batch stays the same")
        unreadable = list(self._prepared.dataset.unreadable)[self._num_unreadable :]  # each process reports its own
        if unreadable:
            self._num_unreadable += len(unreadable)
            self._log.event(report.images_seen, "unreadable", {"pictures": unreadable})
            self._say(f"{', '.join(map(printable, unreadable))} can no longer be read; training uses others instead")
        if self._world.is_main and (report.skipped or self._spikes.is_spike(report)):
            event = "skipped" if report.skipped else "spike"
            names = self._names(report)
            self._log.event(report.images_seen, event, {"loss": report.loss, "pictures": names})
            text = (
                "a step had no finite gradient and was skipped" if report.skipped else f"the loss was {report.loss:.3g}"
            )
            self._say(f"{text}, at {report.images_seen:,} images; see {', '.join(map(printable, names))}")

    def _names(self, report: StepReport) -> list[str]:
        """Keys of the pictures with the largest losses in a step."""
        indices = largest_losses(report.losses)
        positions = report.images_seen - len(report.losses) + indices
        return [self._prepared.dataset.keys[index] for index in self._trainer.samples_at(positions).tolist()]

    def _stop(self, interruption: Interruption) -> None:
        self._save_and_wait()
        seen = self._trainer.images_seen
        self._say(f"stopped at {seen:,} images and saved; run the same command again to resume")
        raise interruption.error()

    def _save_found_nan(self) -> bool:
        """Whether a save found NaN or infinity. Other failures are a warning: a full disk may have space later."""
        try:
            self._checkpointer.check()
        except NotFiniteError:
            return True
        except CheckpointError as error:
            self._say(f"warning: {error}; training continues")
        return False

    def _wait_for_save(self) -> None:
        """Wait for the save under way; a failure is only a warning."""
        try:
            self._checkpointer.wait()
        except TintypeError as error:
            self._say(f"warning: {error}")

    def _save_and_wait(self) -> None:
        """Save a checkpoint and wait until it is on the disk."""
        self._wait_for_save()
        self.save()
        self._checkpointer.wait()
        self._world.barrier()

    def _roll_back(self, error: NotFiniteError) -> None:
        """Return to the newest good checkpoint and skip the samples since. Raises TrainingError after MAX_RETURNS."""
        self._wait_for_save()
        newest = checkpoint.latest(self._run) if self._world.is_main else None
        path = self._world.broadcast(str(newest or ""))
        self._num_returns += 1
        seen = self._trainer.images_seen
        if not path or self._num_returns > MAX_RETURNS:
            rest = f"{path} is good, and the same command resumes there" if path else "no checkpoint was saved yet"
            raise TrainingError(
                f"{error}; {self._num_returns - 1} returns to a checkpoint did not help, at {seen:,} images, step "
                f"{seen // self._config.train.batch_size:,}. Likely causes: a learning rate that is too high (--lr), "
                f"pictures named in {LOG}, or a faulty machine; {rest}"
            )
        folder = Path(path)
        state = load_state(folder)
        self._trainer.roll_back(read_parts(folder, self._trainer.weights(), self._world), state)
        skipped = {"checkpoint": folder.name, "from": state["images_seen"], "until": seen}
        if self._world.is_main:
            self._log.event(seen, "went_back", skipped)
        self._say(
            f"{error}; restored the weights of {folder.name}, skipping images {state['images_seen']:,} to {seen:,}"
        )

    def _try_to_save(self) -> None:
        try:
            self.save()
        except CheckpointError as error:  # a full disk may have space later; the previous checkpoint remains
            self._say(f"warning: {error}; training continues")

    def _try_to_validate(self, interruption: Interruption) -> None:
        self._metrics = ValidationMetrics()
        with self._trainer.averaged():
            if self._world.is_main:
                try:
                    self._metrics = self._validator(interruption, self._seconds)
                except (TintypeError, OSError, RuntimeError, MemoryError) as error:
                    if not isinstance(error, TintypeError | OSError) and not is_out_of_memory(error):
                        raise
                    reason = "memory ran out" if is_out_of_memory(error) else error
                    self._say(f"warning: no samples: {reason}")
                self._log.write(self._metrics)
        self._world.barrier()
        self._validated_at = time.monotonic()

    def _finish(self, interruption: Interruption) -> None:
        self._check_lock()
        self._try_to_validate(interruption)
        self._save_and_wait()
        with self._trainer.averaged(long=True):
            longer = self._validator.measure(self._seconds, ["true"]) if self._world.is_main else ValidationMetrics()
        self._world.barrier()
        self._check_lock()
        export_model(
            self._run,
            self._config,
            self._prepared,
            self._trainer,
            (self._metrics, longer),
            self._seconds,
            self._data,
            self._world,
        )
        self._world.barrier()

    def _measured_at(self, images_seen: int) -> ValidationMetrics | None:
        """The metrics of the validation at `images_seen`, if there was one."""
        return self._metrics if self._metrics.images_seen == images_seen else None

    def _state(self) -> dict[str, Any]:
        measured = self._measured_at(self._trainer.images_seen)
        return {
            **self._trainer.counts(),
            HELD_OUT_ERROR: None if measured is None else measured.score,
            "fingerprint": self._prepared.dataset.fingerprint,
            **numerics(self._prepared.device, self._prepared.bf16),
            "seconds": round(self._seconds, 3),
        }

    def _say(self, text: str) -> None:
        say(self._console, text)
