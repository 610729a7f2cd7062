"""The session: training steps with progress, validation and checkpoints between them, and recovery from NaN."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from tintype.config import Config
from tintype.data.thread_pool import finished
from tintype.errors import NotFiniteError, TrainingError
from tintype.model import checkpoint
from tintype.model.file_names import CONFIG, LOG
from tintype.training.checkpoints.checkpointer import EARLY_STOPPING, read_parts, read_whole
from tintype.training.checkpoints.run_folder import RunLock, load_state
from tintype.training.console import duration, say
from tintype.training.core.threads import ThreadTuner
from tintype.training.core.trainer import StepReport, Trainer
from tintype.training.finish import Finish
from tintype.training.monitor.early_stopping import BEST, EarlyStopping
from tintype.training.monitor.events import Events
from tintype.training.monitor.log import Display, Log
from tintype.training.monitor.tensorboard import TensorBoardWriter
from tintype.training.monitor.validate import Validations, Validator
from tintype.training.parallel.world import World
from tintype.training.saving import Saving
from tintype.training.setup.budget import Budget
from tintype.training.setup.forecast import memorizing_begins, num_different
from tintype.training.setup.prepared import Prepared
from tintype.training.signals import Interruption

MAX_RETURNS = 3  # returns to a checkpoint after NaN or infinity, before the run fails
_MINUTE = 60.0
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
        self._config = config
        self._trainer = trainer
        self._console = console
        self._world = world or World()
        self._seconds = float(prepared.state.get("seconds", 0.0))
        self._log = Log(run / LOG, tensorboard)
        self._validator = Validator(run, config, prepared, trainer)
        self._events = Events(prepared, trainer, self._log, self._world, self._say)
        self._threads = threads
        self._budget = budget
        self._num_returns = 0
        self._validated_at = time.monotonic()
        self._validations = Validations(self._validator, trainer, self._world, self._log, budget, self._say)
        self._stopping = _early_stopping(config, prepared, trainer, self._world)
        self._saving = Saving(run, prepared, trainer, self._world, lock, self._stopping, self._say)
        self._finish = Finish(run, prepared, trainer, self._world, console, data, self._validations, self._saving)

    def steps(self, interruption: Interruption) -> Iterator[StepReport]:
        """Train to the end and leave a model folder: a report after each step, the last once that folder is complete.

        A report has the errors that were measured after its step, if any. Closing the iterator saves a checkpoint.
        Raises `interruption.error()` once everything is saved, if a signal came.
        """
        last = None
        try:
            with Display(self._console, self._config.train, self._trainer.images_seen) as display:
                while self._trainer.images_seen < self._config.train.images:
                    try:
                        last = yield from self._steps(display, interruption)
                    except NotFiniteError as error:
                        self._roll_back(error)
            self._finish(interruption, self._seconds)
            if last is not None:
                yield replace(last, validation=self._validations.metrics)
        finally:
            self._saving.close()

    def validate(self) -> float:
        """Write a grid of samples and measure the held-out errors. All processes must call it; rank 0 does the work.

        Returns how long the errors of the longer average would take, in seconds.
        """
        with self._trainer.averaged():
            if self._world.is_main:
                finished(self._validator.measure(0.0))
                finished(self._validator.write_samples())
        return self._validator.longer_seconds

    def save(self) -> None:
        """Start to save a checkpoint. Raises the error of the previous save: CheckpointError or NotFiniteError."""
        self._saving.save(self._validations.at(self._trainer.images_seen), self._seconds)

    def _steps(self, display: Display, interruption: Interruption) -> Generator[StepReport, None, StepReport | None]:
        """Train to the end, and report all steps but the last, which is returned."""
        size = self._config.train.batch_size
        self._look(interruption)  # that a signal ended, of the state that was saved then
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
            display.set_length(self._config.train)
            if report.images_seen >= self._config.train.images:
                return report
            try:
                with interruption.released():
                    yield replace(report, validation=self._validations.at(report.images_seen))
            except GeneratorExit:
                self._save_now()
                raise
            start = time.perf_counter()
        return None

    def _after_step(self, report: StepReport, interruption: Interruption) -> None:
        self._events.after_step(report)
        self._look(interruption)
        self._saving.look_at_folder()
        train, now = self._config.train, time.monotonic()
        ended = report.images_seen >= train.images  # the end validates and saves anyway
        validate = not ended and now - self._validated_at >= train.sample_minutes * _MINUTE
        if validate and self._budget is not None and not self._budget.allows_validation():
            validate = False
            self._validated_at = now  # left out: the next one is due as long after this
        since = (now - self._saving.saved_at) / (train.save_minutes * _MINUTE)
        save = not ended and not report.skipped and since >= (_SAVE_EARLY if validate else 1.0)
        main = self._world.is_main
        images = self._budgeted_images(report.images_seen)
        flags = [interruption.received is not None, main and validate, main and save, self._saving.found_nan()]
        stop, validate, save, is_broken, moves = self._world.any([*flags, images is not None])
        if stop:
            self._stop(interruption)
        if is_broken:
            raise NotFiniteError("the weights contain NaN or infinity")
        if moves:
            self._set_images(int(self._world.broadcast(str(images))))
        if validate:
            self._validations.run(interruption, self._seconds)
            self._validated_at = time.monotonic()
        if save:
            self._saving.try_to_save(self._validations.at(report.images_seen), self._seconds)

    def _look(self, interruption: Interruption) -> None:
        """Measure the held-out error if that is due, and move the end of the run if `EarlyStopping` says so.

        A signal ends the measurement, which is then due again when the run resumes: at the same weights.
        """
        stopping = self._stopping
        if stopping is None or not stopping.is_due():
            return
        stops = None
        with self._trainer.averaged():
            if self._world.is_main:
                stops = interruption.finished(stopping.measure())
            else:
                stopping.left_out()
        if stops is not None:
            self._log.event(self._trainer.images_seen, EARLY_STOPPING, stopping.result())
        if self._world.any([bool(stops)])[0]:
            self._stop_early(stopping)

    def _stop_early(self, stopping: EarlyStopping) -> None:
        """End the run: now, with its best average, or once all samples were of full size; see `EarlyStopping`."""
        train = self._trainer.config.train
        best = stopping.stop()
        if stopping.end >= train.images:  # its rate is about to fall as planned
            return
        if best and stopping.end == self._trainer.images_seen:
            self._trainer.set_average(best)
        self._trainer.set_images(stopping.end, planned_images=train.images)
        self._config = self._trainer.config
        if self._world.is_main:
            checkpoint.write_text(self._run / CONFIG, self._config.to_json())
            self._log.event(self._trainer.images_seen, "stopping", {"images": stopping.end, "before": train.images})
        self._say(
            f"the error on held-out pictures has only risen since {stopping.images:,} images: from here on the run "
            f"would only learn its pictures by heart, so it ends at {stopping.end:,} images instead of "
            f"{train.images:,} (--no-stop goes on)"
        )

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
        self._trainer.set_images(images)
        self._config = self._trainer.config
        if self._world.is_main:
            checkpoint.write_text(self._run / CONFIG, self._config.to_json())
            self._log.event(self._trainer.images_seen, "replanned", {"images": images, "before": planned})
        speed = "faster" if images > planned else "slower"
        self._say(f"{speed} than planned: the run now ends at {images:,} images instead of {planned:,}")

    def _stop(self, interruption: Interruption) -> None:
        self._save_now()
        seen = self._trainer.images_seen
        self._say(f"stopped at {seen:,} images and saved; run the same command again to resume")
        raise interruption.error()

    def _save_now(self) -> None:
        """Save a checkpoint and wait until it is on the disk. Raises CheckpointError, NotFiniteError."""
        error = self._saving.save_now(self._validations.at(self._trainer.images_seen), self._seconds)
        if error is not None:
            raise error

    def _roll_back(self, error: NotFiniteError) -> None:
        """Return to the newest good checkpoint and skip the samples since. Raises TrainingError after MAX_RETURNS."""
        self._saving.wait()
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

    def _say(self, text: str) -> None:
        say(self._console, text)


def _early_stopping(config: Config, prepared: Prepared, trainer: Trainer, world: World) -> EarlyStopping | None:
    """What may end a run early; None where that is off, or cannot be known."""
    if not config.train.stop_early or config.distill.steps or world.is_sharded:
        return None
    training, held_out = prepared.dataset.split(config.train.held_out)
    state, folder = prepared.state.get(EARLY_STOPPING) or {}, prepared.checkpoint
    has_best = bool(state) and folder is not None and BEST in checkpoint.part_names(folder)
    best = read_whole(folder, [BEST])[BEST] if has_best and folder is not None else {}
    forecast = 0
    if prepared.initial is None:
        forecast = memorizing_begins(config, num_different(prepared.dataset, training))
    stopping = EarlyStopping(trainer, held_out, state, best, forecast)
    return stopping if stopping.can_measure else None
