"""The checkpoints of a session: what they hold, when a failure to save is a warning, and the lock of their folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tintype.errors import CheckpointError, NotFiniteError, TintypeError
from tintype.model import checkpoint
from tintype.model.custom import to_json
from tintype.model.file_names import COMPONENTS, CONFIG, STATE, TOKENIZER
from tintype.training.checkpoints.checkpointer import EARLY_STOPPING, HELD_OUT_ERROR, Checkpointer
from tintype.training.checkpoints.run_folder import RunLock
from tintype.training.core.trainer import Trainer
from tintype.training.core.validation_error import ValidationMetrics
from tintype.training.monitor.early_stopping import EarlyStopping
from tintype.training.parallel.world import World
from tintype.training.setup.prepared import Prepared

_LOCK_SECONDS = 1.0  # between looks at whether the run folder is still at its path


class Saving:
    """Saves the state of a trainer as checkpoints of a run. All processes must call `save` and `save_now` together.

    `saved_at`: when the newest save was started, by `time.monotonic`.

    Args:
        lock: of the run folder, on rank 0; None: there is none to look at.
        stopping: is part of the state; None: the run does not stop by itself.
        say: prints a line for people.
    """

    def __init__(
        self,
        run: Path,
        prepared: Prepared,
        trainer: Trainer,
        world: World,
        lock: RunLock | None,
        stopping: EarlyStopping | None,
        say: Callable[[str], None],
    ) -> None:
        self._run = run
        self._prepared = prepared
        self._trainer = trainer
        self._world = world
        self._lock = lock
        self._stopping = stopping
        self._say = say
        self._checkpointer = Checkpointer(run, trainer.config.train, world)
        self._lock_checked_at = self.saved_at = time.monotonic()
        self._is_saved = prepared.is_saved(run, trainer.images_seen)
        self._images_saved = trainer.images_seen  # of the checkpoint that is the present state, if `_is_saved`

    @property
    def is_saved(self) -> bool:
        """Whether the present state of the trainer is known to be on the disk."""
        return self._is_saved and self._images_saved == self._trainer.images_seen

    def save(self, metrics: ValidationMetrics | None, seconds: float) -> None:
        """Start to save a checkpoint. Raises the error of the previous save: CheckpointError or NotFiniteError.

        metrics: of a validation of this state, if there was one. seconds: time trained so far.
        """
        self.saved_at = time.monotonic()
        self.require_folder()
        if self._world.is_sharded:
            self.wait()  # all processes save, or none does
            self._world.barrier()
        elif not self._world.is_main:
            return
        train = self._trainer.config.train
        folder = checkpoint.step_folder(self._run, self._trainer.images_seen // train.batch_size)
        state = json.dumps(self._state(metrics, seconds), indent=2) + "\n"
        texts = {CONFIG: self._trainer.config.to_json(), STATE: state}
        if names := self._prepared.components.names():
            texts[COMPONENTS] = to_json(names)
        if self._prepared.tokenizer is not None:
            texts[TOKENIZER] = self._prepared.tokenizer
        best = {} if self._stopping is None else self._stopping.tensors()
        self._checkpointer.save(folder, {**self._trainer.tensors(), **best}, texts)

    def try_to_save(self, metrics: ValidationMetrics | None, seconds: float) -> None:
        """`save`, where a failure is a warning."""
        try:
            self.save(metrics, seconds)
        except CheckpointError as error:  # a full disk may have space later; the previous checkpoint remains
            self._say(f"warning: {error}; training continues")

    def save_now(self, metrics: ValidationMetrics | None, seconds: float) -> CheckpointError | None:
        """Save a checkpoint, unless there is one of this state, and wait until it is on the disk.

        Returns the error if the disk refuses or memory runs out. Raises NotFiniteError.
        """
        error = None
        self.wait()
        if not self.is_saved:
            try:
                self.save(metrics, seconds)
                self._checkpointer.wait()
                self._is_saved, self._images_saved = True, self._trainer.images_seen
            except CheckpointError as refused:
                error = refused
        self._world.barrier()
        return error

    def wait(self) -> None:
        """Wait for the save under way; a failure is only a warning."""
        try:
            self._checkpointer.wait()
        except TintypeError as error:
            self._say(f"warning: {error}")

    def found_nan(self) -> bool:
        """Whether a save found NaN or infinity. Other failures are a warning: a full disk may have space later."""
        try:
            self._checkpointer.check()
        except NotFiniteError:
            return True
        except CheckpointError as error:
            self._say(f"warning: {error}; training continues")
        return False

    def look_at_folder(self) -> None:
        """`require_folder`, once in a while."""
        if time.monotonic() - self._lock_checked_at >= _LOCK_SECONDS:
            self.require_folder()

    def require_folder(self) -> None:
        """Raise TrainingError if the run folder was moved or deleted, before anything is written to its old path."""
        self._lock_checked_at = time.monotonic()
        if self._lock is not None:
            self._lock.check()

    def close(self) -> None:
        """Wait for the save under way, if any, and drop its error."""
        self._checkpointer.close()

    def _state(self, metrics: ValidationMetrics | None, seconds: float) -> dict[str, Any]:
        return {
            **self._trainer.counts(),
            HELD_OUT_ERROR: None if metrics is None else metrics.score,
            "fingerprint": self._prepared.dataset.fingerprint,
            **self._prepared.numerics().to_dict(),
            "seconds": round(seconds, 3),
            **({} if self._stopping is None else {EARLY_STOPPING: self._stopping.state()}),
        }
