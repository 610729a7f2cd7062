"""The list of runs: those of the studio and of the command line, how far each is, and which of them are served."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tintype.errors import TintypeError
from tintype.model import file_names, store
from tintype.serving import logs
from tintype.serving.api.errors import ApiError
from tintype.serving.api.run_log import RunLog
from tintype.serving.api.runs import progress_of
from tintype.serving.catalog import Catalog
from tintype.studio.places import Places, is_id
from tintype.studio.record import RunRecord, log_lines
from tintype.studio.run_notes import notes
from tintype.studio.run_queue import POSSIBLE, RunQueue, run_folders, states_of
from tintype.training.checkpoints.run_folder import is_at_work


class RunList:
    """All runs in the folder of runs. `catalog` is that of the server, once it has one."""

    def __init__(self, places: Places, queue: RunQueue) -> None:
        self.catalog: Catalog | None = None
        self._places = places
        self._queue = queue
        self._logs: dict[Path, RunLog] = {}  # of run folders
        self._refused: set[str] = set()  # runs that cannot be served, which the log has

    def all(self) -> list[dict[str, Any]]:
        """All runs in the folder of runs, whoever started them."""
        records = self._queue.records()
        places = states_of(records)
        described = [self._described(record, places.get(record.name)) for record in records]
        known = {record.name for record in records}
        others = [folder for folder in run_folders(self._places.runs) if folder.name not in known]
        return [*described, *map(self._foreign, others)]

    def get(self, name: str) -> dict[str, Any]:
        """One run. Raises ApiError."""
        for run in self.all():
            if run["name"] == name:
                return run
        raise ApiError(404, "unknown run; GET /api/studio lists them", "run_not_found")

    def progress(self, name: str) -> dict[str, Any] | None:
        """Curves, samples, plan and notes of a run that is served; None of any other, such as one that is gone."""
        folder = self.catalog.runs.get(name) if self.catalog is not None and is_id(name) else None
        if folder is None or folder.parent != self._places.runs:
            return None
        try:
            found = progress_of(name, folder, self._log(folder))
        except ApiError:
            return None
        return {**found, "notes": notes(self._log(folder).validation(), found["noise_error"])}

    def serve(self) -> None:
        """Add to the catalog the runs that have a configuration by now."""
        if self.catalog is None:
            return
        known = self.catalog.runs
        for folder in run_folders(self._places.runs):
            if folder.name in known or not (folder / file_names.CONFIG).is_file():
                continue
            try:
                self.catalog.add(folder)
                logs.event("run served", run=folder.name)
            except TintypeError as error:
                if folder.name not in self._refused:
                    logs.log.error("cannot serve a run", extra={"fields": {"run": folder.name, "error": str(error)}})
                self._refused.add(folder.name)

    def forget(self, name: str) -> None:
        """Serve a run no longer that was moved to the trash."""
        self._logs.pop(self._places.runs / name, None)
        if self.catalog is not None:
            self.catalog.remove(name)

    def _described(self, record: RunRecord, place: int | None) -> dict[str, Any]:
        state = record.state
        if state == "running" and not (self._places.runs / record.name / file_names.CONFIG).is_file():
            state = "preparing"
        lines = log_lines(self._queue.log(record.name), 1) if record.is_at_work else []
        return {
            "name": record.name,
            "dataset": record.dataset,
            "state": state,
            "position": place,
            "settings": record.settings,
            "command": shlex.join(["tintype", *record.arguments]),
            "started": record.started,
            "ended": record.ended,
            "message": lines[0] if lines else record.message,
            "can": list(POSSIBLE[record.state]),
            "model": self._can_draw(record.name),
            **self._length(record.name),
        }

    def _foreign(self, folder: Path) -> dict[str, Any]:
        """A run of the command line."""
        state = "running" if is_at_work(folder) else "stopped"
        empty = dict.fromkeys(("dataset", "position", "settings", "started", "ended"))
        own = {"name": folder.name, "state": state, "command": "", "message": "", "can": []}
        return {**empty, **own, "model": self._can_draw(folder.name), **self._length(folder.name)}

    def _length(self, name: str) -> Mapping[str, Any]:
        """How far a run is, by its own log; nothing before it has a configuration."""
        folder = self._places.runs / name
        try:
            train = store.read_config(store.Model(name, folder, folder)).train
        except TintypeError:
            return dict.fromkeys(("images_seen", "images", "seconds_left"))
        summary = self._log(folder).summary(train)
        return {"images_seen": summary.images_seen, "images": train.images, "seconds_left": summary.seconds_left}

    def _log(self, folder: Path) -> RunLog:
        return self._logs.setdefault(folder, RunLog(folder))

    def _can_draw(self, name: str) -> bool:
        return self.catalog is not None and name in self.catalog.pipelines
