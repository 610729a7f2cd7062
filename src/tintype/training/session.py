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
from tintype.training.checkpoints.checkpointer import HELD_OUT_ERROR, Checkpointer, read_parts
from tintype.training.checkpoints.run_folder import RunLock, load_state
from tintype.training.console import duration, say
from tintype.training.core.threads import ThreadTuner
from tintype.training.core.trainer import StepReport, Trainer
from tintype.training.core.validation_error import ValidationMetrics
from tintype.training.export import export_model
from tintype.training.monitor.events import Events
from tintype.training.monitor.log import Display, Log
from tintype.training.monitor.tensorboard import TensorBoardWriter
from tintype.training.monitor.validate import Validator
from tintype.training.parallel.world import World
from tintype.training.setup.budget import Budget
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
        budget: of rank 0; the length of the run follows it; None: the length stays.
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
        budget: Budget | None = None,
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
        self._events = Events(prepared, trainer, self._log, self._world, self._say)
        self._threads = threads
        self._budget = budget
        self._num_returns = 0
        self._saved_at = self._validated_at = time.monotonic()

    def steps(self, interruption: Interruption) -> Iterator[StepReport]:
        """Train to the end and leave a model folder: a report after each step, the last once that folder is complete.

        A report has the errors that were measured after its step, if any. Closing the iterator saves a checkpoint.
        Raises `interruption.error()` once everything is saved, if a signal came.
        """
        last = None
        try:
            with Display(self._console, self._config.train.images, self._trainer.images_seen) as display:
                while self._trainer.images_seen < self._config.train.images:
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
        size = self._config.train.batch_size
        start = time.perf_counter()
        for report in self._trainer.steps(self._config.train.images):  # `steps` continues if the end has moved
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
            if self._budget is not None:
                self._budget.step(size, seconds)
            self._after_step(report, interruption)
            display.set_images(self._config.train.images)
            if report.images_seen >= self._config.train.images:
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
        self._events.after_step(report)
        if time.monotonic() - self._lock_checked_at >= _LOCK_SECONDS:
            self._check_lock()
        train, now = self._config.train, time.monotonic()
        ended = report.images_seen >= train.images  # the end validates and saves anyway
        validate = not ended and now - self._validated_at >= train.sample_minutes * _MINUTE
        if validate and self._budget is not None and not self._budget.allows_validation():
            validate = False
            self._validated_at = now  # left out: the next one is due as long after this
        since = (now - self._saved_at) / (train.save_minutes * _MINUTE)
        save = not ended and not report.skipped and since >= (_SAVE_EARLY if validate else 1.0)
        main = self._world.is_main
        images = self._budgeted_images(report.images_seen)
        flags = [interruption.received is not None, main and validate, main and save, self._save_found_nan()]
        stop, validate, save, is_broken, moves = self._world.any([*flags, images is not None])
        if stop:
            self._stop(interruption)
        if is_broken:
            raise NotFiniteError("the weights contain NaN or infinity")
        if moves:
            self._set_images(int(self._world.broadcast(str(images))))
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

    def _budgeted_images(self, images_seen: int) -> int | None:
        """A new length of the run, if its speed calls for one; warns when the run will end late."""
        if self._budget is None:
            return None
        images = self._budget.images(images_seen, self._config.train)
        late = None if images is not None else self._budget.late_by(images_seen, self._config.train)
        if late is not None:
            self._say(f"warning: this run will take about {duration(late)} longer than --time; others use this machine")
        return images

    def _set_images(self, images: int) -> None:
        """Move the end of the run, before its learning rate decays."""
        planned = self._config.train.images
        self._config = replace(self._config, train=replace(self._config.train, images=images))
        self._trainer.config = self._config
        if self._world.is_main:
            checkpoint.write_text(self._run / CONFIG, self._config.to_json())
            self._log.event(self._trainer.images_seen, "replanned", {"images": images, "before": planned})
        speed = "faster" if images > planned else "slower"
        self._say(f"{speed} than planned: the run now ends at {images:,} images instead of {planned:,}")

    def _check_lock(self) -> None:
        """Raise TrainingError if the run folder was moved or deleted, before anything is written to its old path."""
        self._lock_checked_at = time.monotonic()
        if self._lock is not None:
            self._lock.check()

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
                start = time.perf_counter()
                try:
                    self._metrics = self._validator(interruption, self._seconds)
                except (TintypeError, OSError, RuntimeError, MemoryError) as error:
                    if not isinstance(error, TintypeError | OSError) and not is_out_of_memory(error):
                        raise
                    reason = "memory ran out" if is_out_of_memory(error) else error
                    self._say(f"warning: no samples: {reason}")
                self._log.write(self._metrics)
                if self._budget is not None:
                    self._budget.validation(time.perf_counter() - start)
        self._world.barrier()
        self._validated_at = time.monotonic()

    def _finish(self, interruption: Interruption) -> None:
        self._check_lock()
        self._try_to_validate(interruption)
        unsaved = self._save_last()
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
        if unsaved is not None:
            self._say(f"warning: {unsaved}; the finished model is saved, but the run goes on from an older checkpoint")

    def _save_last(self) -> CheckpointError | None:
        """Save the last checkpoint, unless the run resumed from it. Returns the error if the disk refuses."""
        failure = None
        if not self._prepared.is_saved(self._run, self._trainer.images_seen):
            self._wait_for_save()
            try:
                self.save()
                self._checkpointer.wait()
            except CheckpointError as error:
                failure = error
        self._world.barrier()
        return failure

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
