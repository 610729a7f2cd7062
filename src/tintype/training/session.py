"""The loop around the steps: what is shown, sampled, saved and left behind, and what is done when numbers fail."""

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
from tintype.data.sources.files import printable
from tintype.errors import CheckpointError, NotFiniteError, TintypeError, TrainingError
from tintype.model import checkpoint
from tintype.model.custom import COMPONENTS, to_json
from tintype.training.checkpoints.checkpointer import HELD_OUT_ERROR, Checkpointer, read_parts
from tintype.training.checkpoints.run_folder import CONFIG, LOG, STATE, TOKENIZER, load_state
from tintype.training.console import say
from tintype.training.core.trainer import StepReport, Trainer
from tintype.training.core.validation_error import ValidationMetrics
from tintype.training.export import export_model
from tintype.training.monitor.log import Display, Log
from tintype.training.monitor.spikes import Spikes, worst
from tintype.training.monitor.tensorboard import TensorBoardWriter
from tintype.training.monitor.validate import Validator
from tintype.training.parallel.world import World
from tintype.training.setup.prepare import Prepared
from tintype.training.signals import Interruption

MAX_RETURNS = 3  # to a checkpoint after steps without finite numbers, after which the run ends with an error
_MINUTE = 60.0
_NEAR = 0.9  # share of the time between saves after which a save follows a look, so that it has an error to go by


class Session:
    """A run from where it stands to its end, or to an interruption.

    Args:
        data: name of the data folder, for the model card.
        world: the processes that train together; the first one alone writes.
        board: where curves are shown, beside the log.
    """

    def __init__(
        self,
        run: Path,
        config: Config,
        ready: Prepared,
        trainer: Trainer,
        console: Console,
        *,
        data: str,
        world: World | None = None,
        board: TensorBoardWriter | None = None,
    ) -> None:
        self._run = run
        self._config = config
        self._ready = ready
        self._trainer = trainer
        self._console = console
        self._data = data
        self._world = world or World()
        self._seconds = float(ready.state.get("seconds", 0.0))
        self._log = Log(run / LOG, board)
        self._look = Validator(run, config, ready, trainer)
        self._saver = Checkpointer(run, config.train, self._world)
        self._seen = ValidationMetrics()
        self._spikes = Spikes()
        self._micro_batch = trainer.micro_batch
        self._num_returns = self._num_unreadable = 0
        self._saved_at = self._looked_at = time.monotonic()

    def steps(self, interruption: Interruption) -> Iterator[StepReport]:
        """Train to the end and leave a model folder: a report after each step, the last once that folder is complete.

        A report has the errors that were measured after its step, if any. Closing the iterator saves a checkpoint.
        Raises what `interruption` says, once everything is saved.
        """
        images = self._config.train.images
        last = None
        try:
            with Display(self._console, images, self._trainer.images_seen) as display:
                while self._trainer.images_seen < images:
                    try:
                        last = yield from self._steps(display, interruption)
                    except NotFiniteError as error:
                        self._go_back(error)
            self._finish(interruption)
            if last is not None:
                yield replace(last, validation=self._seen)
        finally:
            self._saver.close()

    def sample(self) -> ValidationMetrics:
        """Write a grid of samples and measure the held-out error. All processes call it; the first one looks."""
        with self._trainer.averaged():
            return self._look() if self._world.is_main else ValidationMetrics()

    def save(self) -> None:
        """Begin to save a checkpoint. Raises what went wrong in the one before: CheckpointError, NotFiniteError."""
        self._saved_at = time.monotonic()
        if self._world.is_sharded:
            self._settle()  # all of them save or none
            self._world.barrier()
        elif not self._world.is_main:
            return
        place = checkpoint.step_folder(self._run, self._trainer.images_seen // self._config.train.batch_size)
        texts = {CONFIG: self._config.to_json(), STATE: json.dumps(self._state(), indent=2) + "\n"}
        if names := self._ready.components.names():
            texts[COMPONENTS] = to_json(names)
        if self._ready.tokenizer is not None:
            texts[TOKENIZER] = self._ready.tokenizer
        self._saver.save(place, self._trainer.tensors(), texts)

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
            if interruption.asked:
                interruption.asked = False
                self._say(display.where())
                self._log.write()
            self._between_steps(report, interruption)
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

    def _between_steps(self, report: StepReport, interruption: Interruption) -> None:
        self._tell(report)
        train, now = self._config.train, time.monotonic()
        ended = report.images_seen >= train.images  # the end saves and looks anyway
        look = not ended and now - self._looked_at >= train.sample_minutes * _MINUTE
        since = (now - self._saved_at) / (train.save_minutes * _MINUTE)
        save = not ended and not report.skipped and since >= (_NEAR if look else 1.0)
        main = self._world.is_main
        wishes = [interruption.received is not None, main and look, main and save, self._is_broken()]
        stop, look, save, broken = self._world.any(wishes)
        if stop:
            self._stop(interruption)
        if broken:
            raise NotFiniteError("the weights have become infinite or not numbers")
        if look:
            self._try_to_look(interruption)
        if save:
            self._try_to_save()

    def _tell(self, report: StepReport) -> None:
        if self._trainer.micro_batch != self._micro_batch:
            self._micro_batch = self._trainer.micro_batch
            self._say(f"memory ran out: going on with {self._micro_batch} pictures at a time, the batch stays as it is")
        lost = list(self._ready.pack.unreadable)[self._num_unreadable :]  # those of this process: each writes its own
        if lost:
            self._num_unreadable += len(lost)
            self._log.event(report.images_seen, "unreadable", {"pictures": lost})
            self._say(f"{', '.join(map(printable, lost))} can no longer be read; others are shown instead")
        if self._world.is_main and (report.skipped or self._spikes.is_spike(report)):
            what = "skipped" if report.skipped else "spike"
            names = self._names(report)
            self._log.event(report.images_seen, what, {"loss": report.loss, "pictures": names})
            said = (
                "a step had no finite gradient and was skipped" if report.skipped else f"the loss was {report.loss:.3g}"
            )
            self._say(f"{said}, at {report.images_seen:,} images; see {', '.join(map(printable, names))}")

    def _names(self, report: StepReport) -> list[str]:
        """Keys of the pictures that a step lost most on."""
        places = worst(report.losses)
        positions = report.images_seen - len(report.losses) + places
        return [self._ready.pack.keys[index] for index in self._trainer.samples_at(positions).tolist()]

    def _stop(self, interruption: Interruption) -> None:
        self._save_and_wait()
        seen = self._trainer.images_seen
        self._say(f"stopped at {seen:,} images and saved; run the same command again to go on")
        raise interruption.error()

    def _is_broken(self) -> bool:
        """Whether a save has found numbers that are not finite. Warns of other failures: there may be room later."""
        try:
            self._saver.check()
        except NotFiniteError:
            return True
        except CheckpointError as error:
            self._say(f"warning: {error}; training goes on")
        return False

    def _settle(self) -> None:
        """Wait until nothing is being written, and only warn if that failed."""
        try:
            self._saver.wait()
        except TintypeError as error:
            self._say(f"warning: {error}")

    def _save_and_wait(self) -> None:
        """Save a checkpoint, and return when it is on the disk."""
        self._settle()
        self.save()
        self._saver.wait()
        self._world.barrier()

    def _go_back(self, error: NotFiniteError) -> None:
        """Go back to the newest whole checkpoint and pass over what was shown since. Raises TrainingError in vain."""
        self._settle()
        newest = checkpoint.latest(self._run) if self._world.is_main else None
        told = self._world.broadcast(str(newest or ""))
        self._num_returns += 1
        seen = self._trainer.images_seen
        if not told or self._num_returns > MAX_RETURNS:
            good = f"{told} is good, and the same command goes on from there" if told else "no checkpoint was saved yet"
            raise TrainingError(
                f"{error}; {self._num_returns - 1} returns to a checkpoint did not help, at {seen:,} images, step "
                f"{seen // self._config.train.batch_size:,}. Likely causes: a learning rate that is too high (--lr), "
                f"pictures named in {LOG}, or a faulty machine; {good}"
            )
        place = Path(told)
        state = load_state(place)
        self._trainer.go_back(read_parts(place, self._trainer.weights(), self._world), state)
        passed = {"checkpoint": place.name, "from": state["images_seen"], "until": seen}
        if self._world.is_main:
            self._log.event(seen, "went_back", passed)
        self._say(
            f"{error}; back to the weights of {place.name}, passing over images {state['images_seen']:,} to {seen:,}"
        )

    def _try_to_save(self) -> None:
        try:
            self.save()
        except CheckpointError as error:  # a full disk may have room again later; the one before is still there
            self._say(f"warning: {error}; training goes on")

    def _try_to_look(self, interruption: Interruption) -> None:
        self._seen = ValidationMetrics()
        with self._trainer.averaged():
            if self._world.is_main:
                try:
                    self._seen = self._look(interruption, self._seconds)
                except (TintypeError, OSError) as error:
                    self._say(f"warning: no samples: {error}")
                self._log.write(self._seen)
        self._world.barrier()
        self._looked_at = time.monotonic()

    def _finish(self, interruption: Interruption) -> None:
        self._try_to_look(interruption)
        self._save_and_wait()
        with self._trainer.averaged(long=True):
            longer = self._look.measured(self._seconds, ["true"]) if self._world.is_main else ValidationMetrics()
        self._world.barrier()
        export_model(
            self._run,
            self._config,
            self._ready,
            self._trainer,
            (self._seen, longer),
            self._seconds,
            self._data,
            self._world,
        )
        self._world.barrier()

    def _measured_at(self, images_seen: int) -> ValidationMetrics | None:
        """The errors that were measured when so many images had been seen, if any were."""
        return self._seen if self._seen.images_seen == images_seen else None

    def _state(self) -> dict[str, Any]:
        measured = self._measured_at(self._trainer.images_seen)
        return {
            **self._trainer.counts(),
            HELD_OUT_ERROR: None if measured is None else measured.score,
            "fingerprint": self._ready.pack.fingerprint,
            "device": self._ready.device.type,
            "bf16": self._ready.bf16,
            "seconds": round(self._seconds, 3),
            "torch": str(torch.__version__),
        }

    def _say(self, text: str) -> None:
        say(self._console, text)
