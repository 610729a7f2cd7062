"""The finish of a run, after its last step: it is measured and saved, and the better average becomes the model."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tintype.training.console import doing, say
from tintype.training.core.trainer import Trainer
from tintype.training.export import export_model
from tintype.training.monitor.validate import Validations
from tintype.training.parallel.world import World
from tintype.training.saving import Saving
from tintype.training.setup.prepared import Prepared
from tintype.training.signals import Interruption


@dataclass(frozen=True, slots=True)
class Finish:
    """Makes the model folder of a run whose last step is done. All processes must call it together.

    Args:
        data: name of the data folder, for the model card.
    """

    run: Path
    prepared: Prepared
    trainer: Trainer
    world: World
    console: Console
    data: str
    validations: Validations
    saving: Saving

    def __call__(self, interruption: Interruption, seconds: float) -> None:
        """Validate, save a checkpoint, measure the longer average and write the model. seconds: time trained.

        A signal is heard between any two network calls: it ends this with `interruption.error()` once a checkpoint is
        saved, and resuming does it again. If none can be saved, the model is written, soon after a signal too. Raises
        CheckpointError if it cannot be written either, NotFiniteError and TrainingError.
        """
        self.saving.require_folder()
        with doing(self.console, "measuring the errors and making samples"):
            self.validations.run(interruption, seconds, again=True)
        metrics = self.validations.metrics
        with nullcontext() if self.saving.is_saved else doing(self.console, "saving the last checkpoint"):
            unsaved = self.saving.save_now(self.validations.at(self.trainer.images_seen), seconds)
        is_saved = not self.world.any([unsaved is not None])[0]
        self._stop_if_asked(interruption, is_saved)
        with doing(self.console, "measuring the longer average"):
            longer = self.validations.of_longer_average(interruption, seconds)
        self._stop_if_asked(interruption, is_saved)
        self.saving.require_folder()
        with doing(self.console, "writing the model"):
            export_model(
                self.run,
                self.trainer.config,
                self.prepared,
                self.trainer,
                (metrics, longer),
                seconds,
                self.data,
                self.world,
            )
            self.world.barrier()
        if unsaved is not None:
            say(
                self.console,
                f"warning: {unsaved}; the model is finished all the same, but a longer run would go on from an older "
                "checkpoint, or from the start",
            )

    def _stop_if_asked(self, interruption: Interruption, is_saved: bool) -> None:
        """Raise `interruption.error()` if a process got a signal and there is a checkpoint to finish from."""
        if self.world.any([interruption.received is not None])[0] and is_saved:
            seen = self.trainer.images_seen
            say(self.console, f"stopped after the last of {seen:,} images; run the same command again to finish")
            raise interruption.error()
