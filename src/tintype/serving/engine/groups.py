"""Groups of jobs that fit into one network call, and whose turn it is."""

from __future__ import annotations

from collections.abc import Sequence

from tintype.pipeline.pipeline import Pipeline
from tintype.serving.engine.batcher import Size
from tintype.serving.engine.running_job import RunningJob

Group = tuple[Pipeline, Size]  # of the jobs in it: their model and picture size


class Groups:
    """Takes turns: the group comes next that was advanced longest ago, a new one first."""

    def __init__(self) -> None:
        self._last_turns: dict[Group, int] = {}  # turn in which each group was last advanced
        self._num_turns = 0

    def next(self, running: Sequence[RunningJob]) -> tuple[Group, list[RunningJob]] | None:
        """The group whose turn it is, and its jobs; None if no job runs."""
        groups: dict[Group, list[RunningJob]] = {}
        for job in running:
            groups.setdefault((job.job.task.pipeline, job.job.task.size), []).append(job)
        if not groups:
            return None
        oldest = min(groups, key=lambda group: self._last_turns.get(group, -1))
        self._num_turns += 1
        self._last_turns = {group: turn for group, turn in self._last_turns.items() if group in groups}
        self._last_turns[oldest] = self._num_turns
        return oldest, groups[oldest]
