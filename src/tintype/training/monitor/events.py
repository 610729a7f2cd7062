"""Events of a run: a smaller micro-batch, unreadable pictures, skipped steps and spikes of the loss."""

from __future__ import annotations

from collections.abc import Callable

from tintype.printable import printable
from tintype.training.core.trainer import StepReport, Trainer
from tintype.training.monitor.log import Log
from tintype.training.monitor.spikes import Spikes, largest_losses
from tintype.training.parallel.world import World
from tintype.training.setup.prepared import Prepared


class Events:
    """Prints and logs what happened in a step besides learning.

    Args:
        say: prints a line for people.
    """

    def __init__(
        self, prepared: Prepared, trainer: Trainer, log: Log, world: World, say: Callable[[str], None]
    ) -> None:
        self._prepared = prepared
        self._trainer = trainer
        self._log = log
        self._world = world
        self._say = say
        self._spikes = Spikes()
        self._micro_batch = trainer.micro_batch
        self._num_unreadable = 0

    def after_step(self, report: StepReport) -> None:
        """Report the events of a step."""
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
